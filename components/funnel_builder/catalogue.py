"""The items that can be ranked, as the stages of a package share them."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from components.index_builder.package import check_rows
from schemas import features as f

CANDIDATES = f.CANDIDATE_PREFIX + f.ITEM_ID


class Catalogue(tf.Module):
    """Ids to rows, and rows with scores to ranked ids.

    Args:
      item_ids: [N] the catalogue.
      ids_file: a file with the ids, line by line; becomes an asset.
    """

    def __init__(self, item_ids: np.ndarray, ids_file: str):
        super().__init__()
        # The row after the last stands for no item.
        self._no_item = len(item_ids)
        self._item_ids = tf.Variable(
            np.append(item_ids.astype(object), b""), trainable=False, dtype=tf.string, name="ranked_item_ids"
        )
        self._rows = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                ids_file,
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            ),
            default_value=-1,
        )

    def find_rows(self, candidates: tf.Tensor) -> tf.Tensor:
        """Rows [B, M] of item ids [B, M], each once, in the catalogue's order; -1 for no item.

        In one order equals rank alike however they came.
        """
        rows = tf.sort(tf.cast(self._rows.lookup(candidates), tf.int32), axis=1)
        is_repeat = tf.concat([tf.zeros_like(rows[:, :1], tf.bool), rows[:, 1:] == rows[:, :-1]], axis=1)
        return tf.where(is_repeat, -1, rows)

    def pick_best(
        self, rows: tf.Tensor, probabilities: Mapping[str, tf.Tensor], depth: int
    ) -> dict[str, tf.Tensor]:
        """Ranks each row's candidates by the probability of a click.

        Args:
          rows: [B, M] see `find_rows`.
          probabilities: [B, M] by task.
          depth: items returned at most.

        Returns:
          item_id [B, P] and, by task, probabilities [B, P], P = min(depth, M), best first; "" and the
          smallest float where fewer are left.
        """
        usable = (rows >= 0) & ~tf.math.is_nan(probabilities[f.CLICKED])
        # A loaded function's outputs come in any order; in one order equal inputs make equal files.
        masked = {task: tf.where(usable, x, x.dtype.min) for task, x in sorted(probabilities.items())}
        _, place = tf.math.top_k(masked[f.CLICKED], tf.minimum(depth, tf.shape(rows)[1]))
        best = tf.gather(tf.where(usable, rows, self._no_item), place, batch_dims=1)
        ranked = {task: tf.gather(x, place, batch_dims=1) for task, x in masked.items()}
        return {f.ITEM_ID: tf.gather(self._item_ids, best), **ranked}


def check_candidates(
    inputs: Mapping[str, tf.Tensor], max_candidates: int, max_pairs: int
) -> list[tf.Operation]:
    """Refuses rows that differ in number, and more candidates than memory and time are kept for.

    Args:
      inputs: of a signature, `CANDIDATES` [B, M] among them.
      max_candidates: of a row.
      max_pairs: of a request.
    """
    candidates = inputs[CANDIDATES]
    is_right = (tf.shape(candidates)[1] <= max_candidates) & (tf.size(candidates) <= max_pairs)
    wanted = f"{CANDIDATES}: expected {max_candidates} at most a row and {max_pairs} in all, got"
    return [check_rows(inputs), tf.debugging.Assert(is_right, [wanted, tf.shape(candidates)])]

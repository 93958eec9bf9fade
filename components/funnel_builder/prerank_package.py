"""What is pushed: the signatures of a retrieval package, unchanged, and of pre-ranking, as one SavedModel."""

from typing import Any

import numpy as np
import tensorflow as tf

from components.index_builder.package import check_histories, check_rows
from schemas import features as f
from trainers.prerank import export
from trainers.raw_features import EXAMPLES

PRERANK_SIGNATURE = "prerank"
PRERANK_EXAMPLES_SIGNATURE = "prerank_examples"
PRERANK_SCORE_SIGNATURE = "prerank_score_examples"
PRERANK_USER_SIGNATURE = "prerank_user_vector"
CANDIDATES = f.CANDIDATE_PREFIX + f.ITEM_ID
MAX_CANDIDATES = 16_384  # of a row
MAX_PAIRS = 262_144  # of a request; each takes as many bytes as an item's vector


class FunnelPackage(tf.Module):
    """The signatures of both stages.

    Args:
      retrieval: a flavour's package, loaded; see `RetrievalPackage`.
      student: the pre-ranking student's SavedModel, loaded; see `trainers.prerank.export.ServedStudent`.
      item_ids: [N] the catalogue.
      item_vectors: [N, W] the student's, in the same order; the vectors of all tasks side by side.
      depth: items returned at most.
      ids_file: a file with the ids, line by line; becomes an asset.
    """

    def __init__(
        self,
        retrieval: Any,
        student: Any,
        item_ids: np.ndarray,
        item_vectors: np.ndarray,
        depth: int,
        ids_file: str,
    ):
        super().__init__()
        self._retrieval = retrieval
        self._student = student
        self._depth = depth
        # The row after the last stands for no item.
        self._no_item = len(item_ids)
        self._item_ids = tf.Variable(
            np.append(item_ids.astype(object), b""), trainable=False, dtype=tf.string, name="prerank_item_ids"
        )
        self._item_vectors = tf.Variable(item_vectors, trainable=False, name="prerank_item_vectors")
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

    def _answer(self, user_vectors: tf.Tensor, candidates: tf.Tensor) -> dict[str, tf.Tensor]:
        """Ranks each row's candidates by the probability of a click.

        Args:
          user_vectors: [B, W].
          candidates: [B, M] item ids; an unknown one and "" are none, a repeated one is one.

        Returns:
          item_id [B, P] and, by task, probabilities [B, P], P = min(depth, M), best first; "" and the
          smallest float where fewer are left.
        """
        # In the catalogue's order repeats lie side by side, and equals rank alike however they came.
        rows = tf.sort(tf.cast(self._rows.lookup(candidates), tf.int32), axis=1)
        is_first = tf.concat([tf.ones_like(rows[:, :1], tf.bool), rows[:, 1:] != rows[:, :-1]], axis=1)
        vectors = tf.gather(self._item_vectors, tf.maximum(rows, 0))
        scored = self._student.signatures[export.SCORE_VECTORS_SIGNATURE](
            **{export.USER_VECTORS: user_vectors, export.ITEM_VECTORS: vectors}
        )
        clicked = scored[f.CLICKED]
        usable = (rows >= 0) & is_first & ~tf.math.is_nan(clicked)
        # A loaded function's outputs come in any order; in one order equal inputs make equal files.
        masked = {task: tf.where(usable, x, x.dtype.min) for task, x in sorted(scored.items())}
        _, place = tf.math.top_k(masked[f.CLICKED], tf.minimum(self._depth, tf.shape(rows)[1]))
        rows = tf.gather(tf.where(usable, rows, self._no_item), place, batch_dims=1)
        probabilities = {task: tf.gather(x, place, batch_dims=1) for task, x in masked.items()}
        return {f.ITEM_ID: tf.gather(self._item_ids, rows), **probabilities}

    @tf.function(
        autograph=False,
        input_signature=[
            tf.TensorSpec([None], tf.string, EXAMPLES),
            tf.TensorSpec([None, None], tf.string, CANDIDATES),
        ],
    )
    def from_examples(self, examples: tf.Tensor, candidate_item_id: tf.Tensor) -> dict[str, tf.Tensor]:
        """Candidates [B, M] ranked for serialized tf.Examples [B] with the query features."""
        rows = {EXAMPLES: examples, CANDIDATES: candidate_item_id}
        with tf.control_dependencies([check_rows(rows), _check_candidates(candidate_item_id)]):
            users = self._student.signatures[export.USER_SIGNATURE](examples=examples)
            return self._answer(users[export.VECTORS], candidate_item_id)

    def from_raw(self) -> tf.types.experimental.ConcreteFunction:
        """The signature for JSON clients: dense raw features, see `RawFeatures.dense_signature`."""
        user_vector = self._student.signatures[export.USER_RAW_SIGNATURE]
        signature = dict(user_vector.structured_input_signature[1])
        signature[CANDIDATES] = tf.TensorSpec([None, None], tf.string, CANDIDATES)

        @tf.function(autograph=False)
        def answer(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            candidates = inputs[CANDIDATES]
            checks = [check_rows(inputs), check_histories(inputs), _check_candidates(candidates)]
            with tf.control_dependencies(checks):
                users = user_vector(**{name: x for name, x in inputs.items() if name != CANDIDATES})
                return self._answer(users[export.VECTORS], candidates)

        return answer.get_concrete_function(**signature)

    def save(self, path: str) -> None:
        """Writes the SavedModel."""
        signatures = {
            **self._retrieval.signatures,
            PRERANK_SIGNATURE: self.from_raw(),
            PRERANK_EXAMPLES_SIGNATURE: self.from_examples,
            PRERANK_SCORE_SIGNATURE: self._student.signatures[export.SCORE_SIGNATURE],
            PRERANK_USER_SIGNATURE: self._student.signatures[export.USER_SIGNATURE],
        }
        options = tf.saved_model.SaveOptions(namespace_whitelist=["Scann"])
        tf.saved_model.save(self, path, signatures=signatures, options=options)


def _check_candidates(candidates: tf.Tensor) -> tf.Operation:
    """Refuses more candidates [B, M] than memory is kept for."""
    is_right = (tf.shape(candidates)[1] <= MAX_CANDIDATES) & (tf.size(candidates) <= MAX_PAIRS)
    wanted = f"{CANDIDATES}: expected {MAX_CANDIDATES} at most a row and {MAX_PAIRS} in all, got"
    return tf.debugging.Assert(is_right, [wanted, tf.shape(candidates)])

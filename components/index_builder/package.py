"""What is pushed: the query tower and the catalogue's indexes, for users and for items, as one SavedModel."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from schemas import features as f
from trainers.retrieval import export
from trainers.saved_models import save_signatures

DEFAULT_SIGNATURE = "serving_default"
RECOMMEND_SIGNATURE = "recommend"
RECOMMEND_EXAMPLES_SIGNATURE = "recommend_examples"
SIMILAR_SIGNATURE = "similar"
QUERY_SIGNATURE = export.QUERY_SIGNATURE
EXCLUDE = "exclude_item_id"
SCORES = "scores"
MAX_ROWS = 1024  # of a request: the exact index takes 4 bytes for each row and item

# (queries [B, D], k) -> (scores [B, k], rows of the catalogue [B, k])
Search = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def load_package(path: str) -> Any:
    """A package that was saved, with its signatures.

    Raises:
      ValueError: naming the path, if a file of it is damaged.
    """
    try:
        return tf.saved_model.load(path)
    except (tf.errors.OpError, OSError, ValueError, IndexError, RuntimeError) as error:  # as its readers do
        raise ValueError(
            f"{path}: cannot be loaded ({error}). Expected a SavedModel as it was built; delete "
            f"{Path(path).parent}: the next run makes it again."
        ) from error


class BruteForce(tf.Module):
    """The exact index: every item is scored. No custom op, so any TensorFlow Serving loads it."""

    def __init__(self, vectors: np.ndarray):
        super().__init__()
        self._vectors = tf.Variable(vectors, trainable=False, name="item_vectors")

    def __call__(self, queries: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The k best rows by inner product."""
        scores = tf.matmul(queries, self._vectors, transpose_b=True)
        return tf.math.top_k(scores, k)


class RetrievalPackage(tf.Module):
    """The signatures of a pushed retrieval model, the same whatever index answers them.

    Args:
      towers: the trainer's SavedModel, loaded.
      item_ids: [N] the catalogue.
      search: the index of what users are given.
      anchors: [N, D] the items' vectors as queries for other items.
      search_similar: the index of what items are given.
      depth: items returned at most.
      ids_file: a file with the ids, line by line; becomes an asset.
    """

    def __init__(
        self,
        towers: Any,
        item_ids: np.ndarray,
        search: Search,
        anchors: np.ndarray,
        search_similar: Search,
        depth: int,
        ids_file: str,
    ):
        super().__init__()
        self._towers = towers
        self._search = search
        self._search_similar = search_similar
        self._num_items = len(item_ids)
        self._depth = min(depth, self._num_items)
        # The row after the last stands for no item.
        self._item_ids = tf.Variable(
            np.append(item_ids.astype(object), b""), trainable=False, dtype=tf.string, name="item_ids"
        )
        self._anchors = tf.Variable(anchors, trainable=False, name="anchor_vectors")
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

    def _answer(
        self, search: Search, queries: tf.Tensor, exclude: tf.Tensor | None = None
    ) -> dict[str, tf.Tensor]:
        """Searches deeper by the number of items excluded, then drops them; linear in both, but for sorting.

        Args:
          search: the index to ask.
          queries: [B, D].
          exclude: [B, E] item ids, or None; unknown ones and "" exclude nothing.

        Returns:
          item_id [B, depth] and scores [B, depth], best first; "" and the smallest float where fewer
          items are left.
        """
        k = tf.constant(self._depth)
        if exclude is not None:
            excluded = tf.cast(self._rows.lookup(exclude), tf.int32)
            counts = tf.math.count_nonzero(excluded >= 0, axis=1, dtype=tf.int32)
            most = tf.maximum(tf.reduce_max(counts), 0)  # of no rows, the largest count is the smallest int
            k = tf.minimum(k + most, self._num_items)
        scores, rows = search(queries, k)
        # An index may return fewer than k: it fills with rows outside the catalogue or NaN distances.
        usable = (rows >= 0) & (rows < self._num_items) & ~tf.math.is_nan(scores)
        if exclude is not None:
            usable &= ~_contains(excluded, rows)
        best, place = tf.math.top_k(tf.where(usable, scores, scores.dtype.min), self._depth)
        rows = tf.gather(tf.where(usable, rows, self._num_items), place, batch_dims=1)
        return {f.ITEM_ID: tf.gather(self._item_ids, rows), SCORES: best}

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string, export.EXAMPLES)])
    def from_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """The best items for serialized tf.Examples [B] with the query features."""
        with tf.control_dependencies([check_rows({export.EXAMPLES: examples})]):
            queries = self._towers.signatures[export.QUERY_SIGNATURE](examples=examples)[export.VECTORS]
        return self._answer(self._search, queries)

    @tf.function(
        autograph=False,
        input_signature=[
            tf.TensorSpec([None], tf.string, export.EXAMPLES),
            tf.TensorSpec([None, None], tf.string, EXCLUDE),
        ],
    )
    def from_examples_excluding(
        self, examples: tf.Tensor, exclude_item_id: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """The same without the items [B, E] named in `exclude_item_id`."""
        with tf.control_dependencies([check_rows({export.EXAMPLES: examples, EXCLUDE: exclude_item_id})]):
            queries = self._towers.signatures[export.QUERY_SIGNATURE](examples=examples)[export.VECTORS]
        return self._answer(self._search, queries, exclude_item_id)

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string, export.EXAMPLES)])
    def query_vector(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """The query tower alone: vectors [B, D]."""
        with tf.control_dependencies([check_rows({export.EXAMPLES: examples})]):
            return self._towers.signatures[export.QUERY_SIGNATURE](examples=examples)

    @tf.function(
        autograph=False,
        input_signature=[
            tf.TensorSpec([None], tf.string, f.ITEM_ID),
            tf.TensorSpec([None, None], tf.string, EXCLUDE),
        ],
    )
    def similar(self, item_id: tf.Tensor, exclude_item_id: tf.Tensor) -> dict[str, tf.Tensor]:
        """What goes best with each item [B], without itself and the excluded; none for an unknown id."""
        with tf.control_dependencies([check_rows({f.ITEM_ID: item_id, EXCLUDE: exclude_item_id})]):
            rows = self._rows.lookup(item_id)
            exclude = tf.concat([item_id[:, tf.newaxis], exclude_item_id], axis=1)
        queries = tf.gather(self._anchors, tf.maximum(rows, 0))
        answer = self._answer(self._search_similar, queries, exclude)
        known = (rows >= 0)[:, tf.newaxis]
        return {
            f.ITEM_ID: tf.where(known, answer[f.ITEM_ID], ""),
            SCORES: tf.where(known, answer[SCORES], answer[SCORES].dtype.min),
        }

    def recommend(self) -> tf.types.experimental.ConcreteFunction:
        """The signature for JSON clients: dense raw features, see `RawFeatures.dense_signature`."""
        from_raw = self._towers.signatures[export.QUERY_RAW_SIGNATURE]
        signature = dict(from_raw.structured_input_signature[1])
        signature[EXCLUDE] = tf.TensorSpec([None, None], tf.string, EXCLUDE)

        @tf.function(autograph=False)
        def answer(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            with tf.control_dependencies([check_rows(inputs), check_histories(inputs)]):
                exclude = inputs.pop(EXCLUDE)
                queries = from_raw(**inputs)[export.VECTORS]
            return self._answer(self._search, queries, exclude)

        return answer.get_concrete_function(**signature)

    def save(self, path: str) -> None:
        """Writes the SavedModel."""
        save_signatures(
            self,
            path,
            {
                DEFAULT_SIGNATURE: self.from_examples,
                RECOMMEND_SIGNATURE: self.recommend(),
                RECOMMEND_EXAMPLES_SIGNATURE: self.from_examples_excluding,
                SIMILAR_SIGNATURE: self.similar,
                QUERY_SIGNATURE: self.query_vector,
            },
            namespaces=("Scann",),
        )


def check_rows(inputs: Mapping[str, tf.Tensor]) -> tf.Operation:
    """Refuses inputs that differ in their number of rows, or have more than `MAX_ROWS`.

    Without it a short input is repeated for all rows in one place and fails obscurely in the next.
    """
    sizes = tf.stack([tf.shape(values)[0] for values in inputs.values()])
    is_right = (sizes[0] <= MAX_ROWS) & tf.reduce_all(sizes == sizes[0])
    wanted = f"{', '.join(inputs)}: expected equally many rows of each, {MAX_ROWS} at most, got"
    return tf.debugging.Assert(is_right, [wanted, sizes], summarize=len(inputs))


def check_histories(inputs: Mapping[str, tf.Tensor]) -> tf.Operation:
    """Refuses the lists [B, n] of a history if n differs; a list of none is one that the client lacks.

    Without it values of different events would be taken for those of one.
    """
    widths = {
        name: tf.shape(values)[1]
        for name, values in inputs.items()
        if name.startswith(f.HISTORY_PREFIX) and values.shape.rank == 2
    }
    if not widths:
        return tf.no_op()
    sizes = tf.stack(list(widths.values()))
    is_right = tf.reduce_all((sizes == 0) | (sizes == tf.reduce_max(sizes)))
    wanted = f"{', '.join(widths)}: expected lists of one length, or none, got"
    return tf.debugging.Assert(is_right, [wanted, sizes], summarize=len(widths))


def _contains(sets: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Which of the values [B, K] are in the same row of the sets [B, E]: [B, K]."""
    ordered = tf.sort(sets, axis=1)
    return tf.searchsorted(ordered, values, "left") < tf.searchsorted(ordered, values, "right")

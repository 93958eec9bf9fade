"""ScaNN twice: bare, and as this project serves it."""

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from scann.scann_ops.py import scann_ops_pybind

from benchmarks.index.data import DEPTH, DIMENSIONS, Asked
from benchmarks.index.timing import Setting, grow
from components.index_builder.package import DEFAULT_SIGNATURE, RetrievalPackage
from components.index_builder.scann_index import ScannIndex, SearchSetting, configure, count_leaves, tune
from schemas import features as f
from trainers.retrieval import export


class BareScann:
    """ScaNN's own Python interface over the kind of index that the project builds.

    Args:
      items: [N, D].
      threads: for building; one searches.
    """

    def __init__(self, items: np.ndarray, threads: int):
        builder = configure(scann_ops_pybind.builder(items, DEPTH, "dot_product"), len(items))
        self._searcher = builder.set_n_training_threads(threads).build()
        self._searcher.set_num_threads(1)

    def prepare(self, setting: Setting) -> Callable[[np.ndarray], Any]:
        """`leaves_to_search`, and `reorder_factor`: how many times k candidates it scores exactly."""
        leaves, candidates = setting["leaves_to_search"], round(DEPTH * setting["reorder_factor"])
        return lambda query: self._searcher.search(query, DEPTH, candidates, leaves)

    def read(self, answer: Any) -> np.ndarray:
        """The rows beside their distances."""
        return answer[0]


class ServedScann:
    """A SavedModel as the IndexBuilder writes it, asked through its default signature.

    In place of the query tower stands one that reads the vector off the example: what is timed is the call,
    the index and the item ids.

    Args:
      items: [N, D].
    """

    def __init__(self, items: np.ndarray):
        self._items = items
        self._index = ScannIndex(items)

    def tune(self, asked: Asked, target_recall: float) -> Setting:
        """What the index chooses for a recall: `target`, `leaves_to_search` and `reorder_factor`."""
        tune(self._index, asked.queries, asked.rows, target_recall)
        return {"target": target_recall, **dataclasses.asdict(self._index.setting)}

    def prepare(self, setting: Setting) -> Callable[[np.ndarray], np.ndarray]:
        """Saves and loads a package with what `tune` has chosen."""
        self._index.setting = SearchSetting(setting["leaves_to_search"], setting["reorder_factor"])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)
            item_ids = np.array([b"%09d" % row for row in range(len(self._items))])
            (path / "item_ids.txt").write_bytes(b"\n".join(item_ids) + b"\n")
            package = RetrievalPackage(
                _load_reading_tower(path / "tower"),
                item_ids,
                self._index,
                self._items,
                self._index,
                DEPTH,
                str(path / "item_ids.txt"),
            )
            package.save(str(path / "package"))
            model = tf.saved_model.load(str(path / "package"))
        answer = model.signatures[DEFAULT_SIGNATURE]
        return lambda query: answer(examples=tf.constant([query.tobytes()]))[f.ITEM_ID].numpy()

    def read(self, answer: np.ndarray) -> np.ndarray:
        """Ids are rows as text, and empty where nothing was found."""
        return answer[0][answer[0] != b""].astype(np.int64)


def list_leaves_and_factor(num_items: int, step: float) -> list[Setting]:
    """The grid of `BareScann`."""
    return [
        {"leaves_to_search": leaves, "reorder_factor": factor}
        for leaves in grow(1, count_leaves(num_items), step)
        for factor in (1.5, 3.0, 6.0, 12.0, 24.0)
    ]


class _ReadingTower(tf.Module):
    """Has a query tower's signatures; an example is the bytes of the query's vector."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, export.EXAMPLES)])
    def query_vector(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return {export.VECTORS: tf.reshape(tf.io.decode_raw(examples, tf.float32), [-1, DIMENSIONS])}

    @tf.function(input_signature=[tf.TensorSpec([None, DIMENSIONS], tf.float32, "query")])
    def query_vector_raw(self, query: tf.Tensor) -> dict[str, tf.Tensor]:
        return {export.VECTORS: tf.identity(query)}


def _load_reading_tower(path: Path) -> Any:
    tower = _ReadingTower()
    signatures = {
        export.QUERY_SIGNATURE: tower.query_vector,
        export.QUERY_RAW_SIGNATURE: tower.query_vector_raw,
    }
    tf.saved_model.save(tower, str(path), signatures=signatures)
    return tf.saved_model.load(str(path))

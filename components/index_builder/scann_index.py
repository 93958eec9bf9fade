"""The approximate index (ScaNN, Guo et al., ICML 2020), tuned to a recall by itself."""

import dataclasses
import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from scann.scann_ops.py import scann_builder, scann_ops

from components.index_builder.package import Search

_MIN_ITEMS_FOR_TREE = 2000  # below, a tree saves nothing over scoring every item
_DIMENSIONS_PER_BLOCK = 2
_REORDER_FACTORS = (1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0, 30.0)
_LATENCY_QUERIES = 200
_TURNS = 3


class ScannIndex(tf.Module):
    """A ScaNN searcher that survives `tf.saved_model.save`.

    Args:
      vectors: [N, D] float32.

    Attributes:
      setting: how it searches.
      depth: the rows that the setting was tuned for. A search for more opens more leaves in proportion: those
        for fewer hold few of the rows that come next, which a search with many exclusions is for.
    """

    def __init__(self, vectors: np.ndarray):
        super().__init__()
        self.num_items = len(vectors)
        self.num_leaves = count_leaves(self.num_items)
        # ScaNN codes two dimensions with as many bits as any other two. After a random rotation they hold as
        # much of the vectors, whatever the axes were; inner products stay.
        self._rotation = tf.Variable(_make_rotation(vectors.shape[1]), trainable=False, name="rotation")
        rotated = vectors @ self._rotation.numpy()
        builder = configure(scann_ops.builder(rotated, 10, "dot_product"), self.num_items)
        self._state = builder.build().serialize_to_module()
        # TensorFlow finds a searcher by this name. ScaNN leaves it empty, and all searchers of a process,
        # a model's two as well as two models', are then one.
        self._name = f"scann-{hashlib.sha256(vectors.tobytes()).hexdigest()[:16]}"
        self.setting = SearchSetting(self.num_leaves, 1.0)
        self.depth = self.num_items

    def __call__(self, queries: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """About the k best rows by inner product; NaN and -1 where it found fewer."""
        searcher = self._find_searcher()
        queries = tf.matmul(queries, self._rotation)
        how: dict[str, Any] = {"final_num_neighbors": k}
        if self.num_leaves:
            how["pre_reorder_num_neighbors"] = tf.cast(
                tf.cast(k, tf.float32) * self.setting.reorder_factor, tf.int32
            )
            times_deeper = tf.maximum(tf.cast(k, tf.float32) / self.depth, 1.0)
            leaves = tf.cast(times_deeper * self.setting.leaves_to_search, tf.int32)
            how["leaves_to_search"] = tf.minimum(leaves, self.num_leaves)

        def search_one() -> tuple[tf.Tensor, tf.Tensor]:
            rows, scores = searcher.search(queries[0], **how)
            return rows[tf.newaxis], scores[tf.newaxis]

        # A single query is what is served, and does not need what a batch does to share its work.
        rows, scores = tf.cond(
            tf.shape(queries)[0] == 1, search_one, lambda: tuple(searcher.search_batched(queries, **how))
        )
        # The op returns as many columns as the luckiest query of the batch has results.
        missing = [[0, 0], [0, tf.maximum(k - tf.shape(rows)[1], 0)]]
        return (
            tf.pad(scores, missing, constant_values=float("nan")),
            tf.pad(rows, missing, constant_values=-1),
        )

    def _find_searcher(self) -> scann_ops.ScannSearcher:
        """The searcher of this index; `scann_ops.searcher_from_module` with a name."""
        state = self._state
        handle = scann_ops.tensors_to_scann(
            state.dataset,
            state.scann_config,
            state.serialized_partitioner,
            state.datapoint_to_token,
            state.ah_codebook,
            state.hashed_dataset,
            state.int8_dataset,
            state.int8_multipliers,
            state.dp_norms,
            shared_name=self._name,
        )
        return scann_ops.ScannSearcher(handle)


def _make_rotation(dimensions: int) -> np.ndarray:
    """An orthogonal matrix [D, D], always the same."""
    gauss = np.random.default_rng(0).standard_normal((dimensions, dimensions))
    return np.linalg.qr(gauss)[0].astype(np.float32)


def count_leaves(num_items: int) -> int:
    """Leaves of the tree over a catalogue; 0 where it has none."""
    return int(np.sqrt(num_items)) if num_items >= _MIN_ITEMS_FOR_TREE else 0


def configure(builder: scann_builder.ScannBuilder, num_items: int) -> scann_builder.ScannBuilder:
    """What kind of index ScaNN is to build, whichever of its interfaces the builder is of."""
    num_leaves = count_leaves(num_items)
    if not num_leaves:
        return builder.score_brute_force()
    builder = builder.tree(
        num_leaves=num_leaves,
        num_leaves_to_search=num_leaves,
        training_sample_size=min(num_items, 250_000),
    )
    builder = builder.score_ah(_DIMENSIONS_PER_BLOCK, anisotropic_quantization_threshold=0.2)
    return builder.reorder(100)


@dataclasses.dataclass(frozen=True)
class SearchSetting:
    """What a search does: leaves it opens, and how many times k candidates it scores exactly."""

    leaves_to_search: int
    reorder_factor: float


def compute_recalls(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Each query's [Q] share of its exact rows [Q, k] among its found rows [Q, k]."""
    # Rows of the catalogue apart by query, so that one query's answers are no hits of another's.
    width = max(found.max(initial=0), exact.max(initial=0)) + 2  # -1 stands for nothing found
    apart = np.arange(len(exact), dtype=np.int64)[:, np.newaxis] * width
    return np.isin(exact + apart, found + apart).mean(axis=1)


def compute_recall(found: np.ndarray, exact: np.ndarray) -> float:
    """Their mean over the queries."""
    return float(compute_recalls(found, exact).mean())


def measure_latency_ms(index: Search, queries: np.ndarray, depth: int) -> dict[str, float]:
    """Latency of single searches inside a graph, as they are served: `p50` and `p99` in milliseconds."""
    milliseconds = 1000 * _time_queries(_trace(index, queries, depth), queries)
    return {"p50": float(np.percentile(milliseconds, 50)), "p99": float(np.percentile(milliseconds, 99))}


def _trace(index: Search, queries: np.ndarray, depth: int) -> Callable[[tf.Tensor], Any]:
    """The search of one query [1, D] as a graph; of a ScaNN index, at the setting it has now."""
    search = tf.function(lambda query: index(query, tf.constant(depth)))
    return search.get_concrete_function(tf.TensorSpec([1, queries.shape[1]], tf.float32))


def _time_queries(search: Callable[[tf.Tensor], Any], queries: np.ndarray) -> np.ndarray:
    """Seconds of `_LATENCY_QUERIES` searches."""
    seconds = []
    for number in range(_LATENCY_QUERIES + 1):
        query = tf.constant(queries[number % len(queries)][np.newaxis])
        start = time.perf_counter()
        search(query)
        seconds.append(time.perf_counter() - start)
    return np.array(seconds[1:])  # the first one warms up


def tune(index: ScannIndex, queries: np.ndarray, exact: np.ndarray, target_recall: float) -> float:
    """Gives the index the fastest setting that reaches the recall, or the most thorough if none does.

    For each reorder factor the fewest leaves are found by bisection; of these settings the one wins that
    answers single queries fastest. A setting reaches the recall if the lower bound of its mean over the
    queries does (one-sided, 95%), so that queries which were not tuned on reach it as well.

    Args:
      index: the index; its `setting` and `depth` are changed.
      queries: [Q, D] for the tuning alone.
      exact: [Q, k] rows the exact index returns.
      target_recall: against them.

    Returns:
      the mean recall reached on these queries.
    """
    depth = index.depth = exact.shape[1]

    def recalls(setting: SearchSetting) -> np.ndarray:
        index.setting = setting
        return compute_recalls(index(tf.constant(queries), tf.constant(depth))[1].numpy(), exact)

    if index.num_leaves:
        reached: dict[SearchSetting, Callable[[tf.Tensor], Any]] = {}
        enough = index.num_leaves
        for factor in _REORDER_FACTORS:
            if _lower_bound(recalls(SearchSetting(enough, factor))) < target_recall:
                continue
            low = 1
            while low < enough:
                middle = (low + enough) // 2
                if _lower_bound(recalls(SearchSetting(middle, factor))) >= target_recall:
                    enough = middle  # and for the larger factors, which need no more leaves
                else:
                    low = middle + 1
            index.setting = SearchSetting(enough, factor)
            reached[index.setting] = _trace(index, queries, depth)
        thorough = SearchSetting(index.num_leaves, _REORDER_FACTORS[-1])
        index.setting = _find_fastest(reached, queries) if reached else thorough
    return float(recalls(index.setting).mean())


def _find_fastest(
    searches: Mapping[SearchSetting, Callable[[tf.Tensor], Any]], queries: np.ndarray
) -> SearchSetting:
    """The setting of the least median latency; the best of a few turns, as other jobs only ever add to it."""
    medians = [[np.median(_time_queries(s, queries)) for s in searches.values()] for _ in range(_TURNS)]
    return list(searches)[int(np.argmin(np.min(medians, axis=0)))]


def _lower_bound(recalls: np.ndarray) -> float:
    """Of the mean over queries [Q], one-sided with 95% confidence."""
    return float(recalls.mean() - 1.645 * recalls.std() / np.sqrt(len(recalls)))

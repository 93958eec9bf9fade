"""The approximate index (ScaNN, Guo et al., ICML 2020), tuned to a recall by itself."""

import dataclasses
import hashlib
import time

import numpy as np
import tensorflow as tf
from scann.scann_ops.py import scann_ops

_MIN_ITEMS_FOR_TREE = 2000  # below, a tree saves nothing over scoring every item
_DIMENSIONS_PER_BLOCK = 2
_REORDER_FACTORS = (1.5, 3.0, 6.0, 12.0)


class ScannIndex(tf.Module):
    """A ScaNN searcher that survives `tf.saved_model.save`.

    Args:
      vectors: [N, D] float32.
    """

    def __init__(self, vectors: np.ndarray):
        super().__init__()
        self.num_items = len(vectors)
        builder = scann_ops.builder(vectors, 10, "dot_product")
        self.num_leaves = 0
        if self.num_items >= _MIN_ITEMS_FOR_TREE:
            self.num_leaves = int(np.sqrt(self.num_items))
            builder = builder.tree(
                num_leaves=self.num_leaves,
                num_leaves_to_search=self.num_leaves,
                training_sample_size=min(self.num_items, 250_000),
            )
            builder = builder.score_ah(_DIMENSIONS_PER_BLOCK, anisotropic_quantization_threshold=0.2)
            builder = builder.reorder(100)
        else:
            builder = builder.score_brute_force()
        self._state = builder.build().serialize_to_module()
        # TensorFlow finds a searcher by this name. ScaNN leaves it empty, and all searchers of a process,
        # a model's two as well as two models', are then one.
        self._name = f"scann-{hashlib.sha256(vectors.tobytes()).hexdigest()[:16]}"
        self.setting = SearchSetting(self.num_leaves, 1.0)

    def __call__(self, queries: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """About the k best rows by inner product; NaN and -1 where it found fewer."""
        searcher = self._find_searcher()
        if not self.num_leaves:
            result = searcher.search_batched(queries, final_num_neighbors=k)
        else:
            reorder = tf.cast(tf.cast(k, tf.float32) * self.setting.reorder_factor, tf.int32)
            result = searcher.search_batched(
                queries,
                final_num_neighbors=k,
                pre_reorder_num_neighbors=reorder,
                leaves_to_search=self.setting.leaves_to_search,
            )
        # The op returns as many columns as the luckiest query of the batch has results.
        missing = [[0, 0], [0, tf.maximum(k - tf.shape(result.indices)[1], 0)]]
        return (
            tf.pad(result.distances, missing, constant_values=float("nan")),
            tf.pad(result.indices, missing, constant_values=-1),
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


@dataclasses.dataclass(frozen=True)
class SearchSetting:
    """What a search does: leaves it opens, and how many times k candidates it scores exactly."""

    leaves_to_search: int
    reorder_factor: float


def compute_recall(found: np.ndarray, exact: np.ndarray) -> float:
    """Mean share of the exact rows [Q, k] among the found rows [Q, k]."""
    # Rows of the catalogue apart by query, so that one query's answers are no hits of another's.
    width = max(found.max(initial=0), exact.max(initial=0)) + 2  # -1 stands for nothing found
    apart = np.arange(len(exact), dtype=np.int64)[:, np.newaxis] * width
    return float(np.isin(exact + apart, found + apart).mean(axis=1).mean())


def tune(index: ScannIndex, queries: np.ndarray, exact: np.ndarray, target_recall: float) -> float:
    """Gives the index the fastest setting that reaches the recall, or the best one if none does.

    For each reorder factor the fewest leaves are found by bisection, recall rising with leaves; the
    fastest of those settings wins.

    Args:
      index: the index; its `setting` is changed.
      queries: [Q, D] for the tuning alone.
      exact: [Q, k] rows the exact index returns.
      target_recall: against them.

    Returns:
      the recall reached on these queries.
    """
    if not index.num_leaves:
        return compute_recall(index(tf.constant(queries), tf.constant(exact.shape[1]))[1].numpy(), exact)
    trials: list[_Trial] = []
    for factor in _REORDER_FACTORS:
        low, high = 1, index.num_leaves
        while low <= high:
            middle = (low + high) // 2
            trials.append(_try(index, SearchSetting(middle, factor), queries, exact))
            low, high = (low, middle - 1) if trials[-1].recall >= target_recall else (middle + 1, high)
    reached = [trial for trial in trials if trial.recall >= target_recall]
    chosen = min(reached, key=lambda t: t.seconds) if reached else max(trials, key=lambda t: t.recall)
    index.setting = chosen.setting
    return chosen.recall


@dataclasses.dataclass(frozen=True)
class _Trial:
    setting: SearchSetting
    recall: float
    seconds: float


def _try(index: ScannIndex, setting: SearchSetting, queries: np.ndarray, exact: np.ndarray) -> _Trial:
    index.setting = setting
    start = time.perf_counter()
    _, rows = index(tf.constant(queries), tf.constant(exact.shape[1]))
    return _Trial(setting, compute_recall(rows.numpy(), exact), time.perf_counter() - start)

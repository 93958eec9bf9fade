"""Ranking metrics of one-target queries, per user and by slice, and the paired bootstrap over users.

Every clicked row is a query with one right answer: the item that was clicked. A user's value is the mean
over the user's queries, a model's value the mean over users, so that nobody counts twice for clicking
more. With rank r from 0: recall@k = 1(r < k), NDCG@k = 1(r < k) / log2(r + 2), MRR = 1 / (r + 1).
"""

import numpy as np
import pandas as pd

RECALL_DEPTHS = (10, 100, 500)
_VALUES_PER_BLOCK = 1 << 16  # of a bootstrap: half a megabyte of values at a time
METRICS = (*(f"recall_{k}" for k in RECALL_DEPTHS), "ndcg_10", "mrr")


def compute_row_metrics(ranks: np.ndarray) -> dict[str, np.ndarray]:
    """Metrics of each query.

    Args:
      ranks: [Q] the target's rank from 0; infinite where it was not returned.
    """
    metrics = {f"recall_{k}": (ranks < k).astype(np.float64) for k in RECALL_DEPTHS}
    metrics["ndcg_10"] = np.where(ranks < 10, 1.0 / np.log2(np.minimum(ranks, 10) + 2), 0.0)
    metrics["mrr"] = 1.0 / (ranks + 1.0)
    return metrics


def compute_random_metrics(num_candidates: np.ndarray) -> dict[str, np.ndarray]:
    """The expected metrics of a uniformly random order, in closed form.

    Args:
      num_candidates: [Q] items that could be ranked.
    """
    n = np.maximum(num_candidates, 1).astype(np.float64)
    metrics = {f"recall_{k}": np.minimum(k / n, 1.0) for k in RECALL_DEPTHS}
    gains = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(10) + 2))])
    metrics["ndcg_10"] = gains[np.minimum(n, 10).astype(int)] / n
    metrics["mrr"] = (np.log(n) + np.euler_gamma + 1 / (2 * n)) / n  # the harmonic number over n
    return metrics


def per_user(users: np.ndarray, rows: dict[str, np.ndarray]) -> pd.DataFrame:
    """Means over each user's queries: one row per user, sorted by user."""
    return (
        pd.DataFrame({**rows, "queries": np.ones(len(users))})
        .groupby(users)
        .agg({**{name: "mean" for name in rows}, "queries": "sum"})
    )


def activity_slices(clicks_so_far: np.ndarray) -> np.ndarray:
    """The decile of each query's number of earlier clicks, as "activity_1" (fewest) to "activity_10"."""
    edges = np.quantile(clicks_so_far, np.linspace(0, 1, 11)[1:-1])
    return np.char.add("activity_", (np.searchsorted(edges, clicks_so_far, side="left") + 1).astype(str))


def bootstrap_lower_bound(
    difference: np.ndarray, confidence: float, samples: int, seed: int = 0
) -> tuple[float, float]:
    """Mean of paired differences over users, and the one-sided lower bound of a bootstrap over users.

    Args:
      difference: [U] each user's value under one model minus that under the other.
      confidence: e.g. .95.
      samples: bootstrap resamples.
      seed: of the resampling.

    Returns:
      mean and lower bound (percentile bootstrap, Efron & Tibshirani 1993, ch. 13).
    """
    means = _bootstrap_means(difference, samples, seed)
    return float(difference.mean()), float(np.quantile(means, 1.0 - confidence))


def bootstrap_interval(
    difference: np.ndarray, confidence: float, samples: int, seed: int = 0
) -> tuple[float, float]:
    """The two-sided percentile interval of the mean of paired differences; see `bootstrap_lower_bound`."""
    means = _bootstrap_means(difference, samples, seed)
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return float(low), float(high)


def _bootstrap_means(values: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """Means [samples] of values [U] drawn with replacement."""
    rng = np.random.default_rng(seed)
    block = max(1, _VALUES_PER_BLOCK // max(len(values), 1))
    sizes = [min(block, samples - start) for start in range(0, samples, block)]
    # The draws come in one order, whatever the blocks.
    drawn = [values[rng.integers(0, len(values), (size, len(values)))].mean(axis=1) for size in sizes]
    return np.concatenate(drawn)

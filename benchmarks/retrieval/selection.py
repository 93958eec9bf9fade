"""The choice of a baseline's settings, on the evaluation split and never on the test split."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from benchmarks.retrieval.data import EVAL, BenchmarkData
from benchmarks.retrieval.item_models import Ease, ItemKnn
from benchmarks.retrieval.score_rankers import ItemModelRanker


def choose_item_model(
    candidates: Sequence[Ease | ItemKnn], data: BenchmarkData, metric: str, *, whole_history: bool = False
) -> tuple[ItemModelRanker, dict[str, Any]]:
    """Fits each candidate on the training clicks and keeps the best on the evaluation split.

    Args:
      candidates: settings to try; of equal ones the first wins.
      data: what they are fitted and compared on.
      metric: one of `METRICS`, as the mean over users.
      whole_history: see `ItemModelRanker`.

    Returns:
      the best ranker, and its settings with what it reached on the evaluation split.

    Raises:
      ValueError: if there are too many items for such a model.
    """
    best: tuple[float, ItemModelRanker, dict[str, Any]] | None = None
    for candidate in candidates:
        weights = candidate.fit(data.train_matrix)
        ranker = ItemModelRanker(weights, data.active, data.popularity_ranks, whole_history=whole_history)
        means = data.measure(ranker, EVAL).mean(numeric_only=True)
        if best is None or means[metric] > best[0]:
            on_eval = {name: float(means[name]) for name in ("recall_10", "recall_100", "ndcg_10")}
            best = (means[metric], ranker, {**dataclasses.asdict(candidate), "eval": on_eval})
    assert best is not None
    return best[1], best[2]

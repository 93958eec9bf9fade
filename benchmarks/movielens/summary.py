"""What a study's results come to: means and deviations, and Winnow against the others."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.movielens.data import mean_metrics
from benchmarks.retrieval.models import WINNOW
from benchmarks.retrieval.study import Measured

CONFIDENCE = 0.95
_SAMPLES = 10_000
_SAMPLES_AT_ONCE = 250


def summarize(results: Sequence[Measured], protocol: Mapping[str, Any]) -> dict[str, Any]:
    """Everything the table and the JSON show.

    Args:
      results: of `benchmarks.retrieval.study.run_study`.
      protocol: what was measured on.

    Returns:
      for each model its metrics, means over queries and seeds, with `sd` over the seeds (0 for a model
      without a seed; null where the study has one seed) and `seconds` of a seed; `comparisons` of Winnow's
      with the others, see `compare`; and the `protocol`. A metric "removed_top_10" is
      {"removed": {"top_10": ...}}.
    """
    tables: dict[str, list[pd.DataFrame]] = {}
    seconds: dict[str, list[float]] = {}
    chosen: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        tables.setdefault(result.model, []).append(pd.DataFrame(result.users))
        seconds.setdefault(result.model, []).append(result.seconds)
        if result.chosen:
            chosen.setdefault(result.model, []).append(result.chosen)
    seeds = sorted({result.seed for result in results})
    summary: dict[str, Any] = {}
    for name, frames in tables.items():
        means = pd.DataFrame([mean_metrics(frame) for frame in frames])
        if len(frames) > 1:
            sd = means.std(ddof=1).to_dict()
        else:
            sd = dict.fromkeys(means, 0.0 if len(seeds) > 1 else None)
        summary[name] = {
            **nest(means.mean().to_dict()),
            "sd": nest(sd),
            "seconds": float(np.mean(seconds[name])),
        }
    ours = tables[WINNOW]
    summary["comparisons"] = {
        name: nest(compare(ours, theirs)) for name, theirs in tables.items() if name != WINNOW
    }
    summary["protocol"] = {**protocol, "seeds": seeds, "chosen_on_validation": chosen}
    return summary


def nest(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics by name, those with the seen items removed or kept in a dictionary of their own."""
    nested: dict[str, Any] = {}
    for name, value in metrics.items():
        seen, _, rest = name.partition("_")
        if seen in ("removed", "kept"):
            nested.setdefault(seen, {})[rest] = value
        else:
            nested[name] = value
    return nested


def compare(ours: Sequence[pd.DataFrame], theirs: Sequence[pd.DataFrame]) -> dict[str, dict[str, float]]:
    """One model minus another, of means over queries.

    Args:
      ours: a table of users per seed, see `HeldOutData.measure`.
      theirs: the same users in the same order; as many seeds, or one of a model that has none.

    Returns:
      by metric: `difference`; `low` and `high`, its 95% interval by a paired bootstrap over users: users are
      drawn with all their queries (Efron & Tibshirani 1993, ch. 8 and 13).
    """
    queries = ours[0]["queries"].to_numpy()
    comparison = {}
    for metric in mean_metrics(ours[0]):
        means = [np.mean([frame[metric] for frame in frames], axis=0) for frames in (ours, theirs)]
        difference = (means[0] - means[1]) * queries  # summed over each user's queries
        low, high = _bootstrap_ratio(difference, queries)
        comparison[metric] = {"difference": float(difference.sum() / queries.sum()), "low": low, "high": high}
    return comparison


def _bootstrap_ratio(totals: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """The percentile interval of sum(totals) / sum(counts) over users [U] drawn with replacement."""
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(0, _SAMPLES, _SAMPLES_AT_ONCE):
        drawn = rng.integers(0, len(totals), (_SAMPLES_AT_ONCE, len(totals)))
        ratios.append(totals[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    tail = (1.0 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(ratios), [tail, 1.0 - tail])
    return float(low), float(high)

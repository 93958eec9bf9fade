"""What a study's results come to: means and deviations, and Winnow against each of the others."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.retrieval.models import WINNOW
from benchmarks.retrieval.study import Measured
from components.retrieval_evaluator.metrics import bootstrap_interval

TABLE_METRICS = ("recall_10", "recall_100", "ndcg_10")
SLICES = ("all", "known_users", "new_users")
CONFIDENCE = 0.95
_SAMPLES = 10_000


def summarize(results: Sequence[Measured], protocol: Mapping[str, Any]) -> dict[str, Any]:
    """Everything the table, the picture and the JSON show.

    Args:
      results: of `study.run_study`.
      protocol: what was measured on.

    Returns:
      for each model, by slice and metric, the mean over seeds of the mean over users, and the standard
      deviation over seeds (0 for a model without a seed; null where the study has one seed, and where a slice
      has no user); `comparisons`, see `compare`; and the `protocol`.
    """
    tables: dict[str, list[pd.DataFrame]] = {}
    for result in results:
        tables.setdefault(result.model, []).append(pd.DataFrame(result.users))
    seeds = sorted({result.seed for result in results})
    summary: dict[str, Any] = {name: _by_slice(frames, len(seeds)) for name, frames in tables.items()}
    summary["comparisons"] = {
        name: compare(tables[WINNOW], frames) for name, frames in tables.items() if name != WINNOW
    }
    chosen: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        if result.chosen:
            chosen.setdefault(result.model, []).append(result.chosen)
    summary["protocol"] = {**protocol, "seeds": seeds, "chosen_on_eval_split": chosen}
    return summary


def _by_slice(frames: Sequence[pd.DataFrame], num_seeds: int) -> dict[str, dict[str, Any]]:
    return {
        part: {
            metric: _mean_and_sd([_select(x, part)[metric] for x in frames], num_seeds)
            for metric in TABLE_METRICS
        }
        for part in SLICES
    }


def _select(frame: pd.DataFrame, part: str) -> pd.DataFrame:
    if part == "all":
        return frame
    return frame[frame["known"] == (part == "known_users")]


def _mean_and_sd(values: Sequence[pd.Series], num_seeds: int) -> dict[str, float | None]:
    """Over seeds, of the means over users."""
    if not len(values[0]):
        return {"mean": None, "sd": None}
    means = np.array([series.mean() for series in values])
    return {"mean": float(means.mean()), "sd": _sd(means, num_seeds)}


def _sd(values: np.ndarray, num_seeds: int) -> float | None:
    """The sample's standard deviation; of a single value 0 for a model without a seed, else unknown."""
    if num_seeds == 1:
        return None
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def compare(
    ours: Sequence[pd.DataFrame], theirs: Sequence[pd.DataFrame]
) -> dict[str, dict[str, float | None]]:
    """One model minus another, over all users.

    Args:
      ours: a table of users per seed, see `BenchmarkData.measure`.
      theirs: the same users, in the same order; as many seeds, or one of a model that has none.

    Returns:
      by metric: `difference`, the mean over users of what each user's mean over seeds differs by; `low` and
      `high`, its 95% interval (paired bootstrap over users); `sd_over_seeds` of the difference, null where
      there is one seed.
    """
    comparison = {}
    for metric in TABLE_METRICS:
        our_values = np.array([frame[metric] for frame in ours])  # (seed, user)
        their_values = np.array([frame[metric] for frame in theirs])
        difference = our_values.mean(axis=0) - their_values.mean(axis=0)
        low, high = bootstrap_interval(difference, CONFIDENCE, _SAMPLES)
        comparison[metric] = {
            "difference": float(difference.mean()),
            "low": low,
            "high": high,
            "sd_over_seeds": _sd((our_values - their_values).mean(axis=1), len(ours)),
        }
    return comparison

"""What the study's results come to: means over seeds, and each row against DIN."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ranking.models import DIN, RankerSpec
from benchmarks.ranking.study import ROWS_FILE, Measured
from components.score_evaluation.metrics import bootstrap_auc_difference

_CONFIDENCE = 0.95
_SAMPLES = 500  # of a bootstrap; each is an AUC of every seed


def summarize(
    results: Sequence[Measured], rankers: Sequence[RankerSpec], facts: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    """Everything the table, the picture and the JSON show of one log.

    Args:
      results: of `study.run_study`.
      rankers: the rows.
      facts: of `study.run_study`, and what else was measured on.
      folder: of the study; holds the scores and the rows they are of.

    Returns:
      `rows`, in the order of the table: `name`; `auc_mean`, `auc_sd` (null of one seed), `gauc_mean`,
      `gauc_sd`, `log_loss_mean` and `eval_auc_mean` over seeds; `gain`, AUC minus DIN's, with `gain_low` and
      `gain_high`, its 95% interval by a paired bootstrap over users (null for DIN), and `gain_errors`, the
      gain in standard errors of the difference of the means over seeds (null of one seed);
      `rows_per_second` of training, of the processor; `note`. And the `protocol`.
    """
    by_name = {spec.name: [x for x in results if x.name == spec.name] for spec in rankers}
    scores = {
        name: np.stack([np.load(folder / x.scores_file) for x in found]) for name, found in by_name.items()
    }
    with np.load(folder / facts[ROWS_FILE]) as rows_file:
        users, clicked = rows_file["users"], rows_file["clicked"]
    rows = []
    for spec in rankers:
        found = by_name[spec.name]
        row: dict[str, Any] = {
            "name": spec.name,
            "auc_mean": _mean(found, "auc"),
            "auc_sd": _sd(found, "auc"),
            "gauc_mean": _mean(found, "gauc"),
            "gauc_sd": _sd(found, "gauc"),
            "log_loss_mean": _mean(found, "log_loss"),
            "eval_auc_mean": _mean(found, "eval_auc"),
            "gain": None,
            "gain_low": None,
            "gain_high": None,
            "gain_errors": None,
            "rows_per_second": _mean(found, "rows_per_second"),
            "note": spec.note,
        }
        if spec.name != DIN:
            difference = bootstrap_auc_difference(
                users, clicked, scores[spec.name], scores[DIN], _CONFIDENCE, _SAMPLES
            )
            row |= {
                "gain": difference.value,
                "gain_low": difference.interval[0],
                "gain_high": difference.interval[1],
                "gain_errors": _count_errors(found, by_name[DIN]),
            }
        rows.append(row)
    train_rows = max(x.train_rows for x in results)
    seeds = sorted({x.seed for x in results})
    return {"rows": rows, "protocol": {**facts, "train_rows": train_rows, "seeds": seeds}}


def _mean(found: Sequence[Measured], metric: str) -> float:
    return float(np.mean([getattr(x, metric) for x in found]))


def _sd(found: Sequence[Measured], metric: str) -> float | None:
    return float(np.std([getattr(x, metric) for x in found], ddof=1)) if len(found) > 1 else None


def _count_errors(ours: Sequence[Measured], theirs: Sequence[Measured]) -> float | None:
    """The difference of the mean AUC in standard errors over seeds."""
    both = [np.array([x.auc for x in found]) for found in (ours, theirs)]
    if min(map(len, both)) < 2:
        return None
    error = np.sqrt(sum(aucs.var(ddof=1) / len(aucs) for aucs in both))
    return float((both[0].mean() - both[1].mean()) / error) if error > 0 else None

"""What the study's results come to: means over seeds, costs, and each row against the control."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.prerank.models import CONTROL, TEACHER, ScorerSpec
from benchmarks.prerank.study import ROWS_FILE, Measured
from components.score_evaluation.metrics import bootstrap_auc_difference

CONFIDENCE = 0.95
_SAMPLES = 500  # of a bootstrap; each is an AUC of every seed


def summarize(
    results: Sequence[Measured],
    scorers: Sequence[ScorerSpec],
    facts: Mapping[str, Any],
    folder: Path,
) -> dict[str, Any]:
    """Everything the table, the picture and the JSON show.

    Args:
      results: of `study.run_study`.
      scorers: the rows; one without a result is left out.
      facts: of `study.run_study`, and what else was measured on.
      folder: of the study; holds the scores and the rows they are of.

    Returns:
      `rows`, in the order of the table: `name`; `auc_mean`, `auc_sd`, `gauc_mean` and `log_loss_mean` over
      seeds (sd null of one seed); `eval_auc_mean`, on the split that the epoch was chosen on; `gain`, AUC
      minus the control's, with `gain_low` and `gain_high`, its 95% interval by a paired bootstrap over users
      (null for the control); `gap_share`, the gain as a share of the teacher's, null where that interval
      is not above 0; `cost_ratio`, what training
      on a row takes relative to the control, with a frozen teacher's own training but without its scoring of
      the student's rows, once for all epochs; `note`. And the `protocol`.
    """
    measured = {x.name for x in results}
    scorers = [spec for spec in scorers if spec.name in measured]
    by_name = {spec.name: [x for x in results if x.name == spec.name] for spec in scorers}
    scores = {
        name: np.stack([np.load(folder / x.scores_file) for x in found]) for name, found in by_name.items()
    }
    with np.load(folder / facts[ROWS_FILE]) as rows_file:
        users, clicked = rows_file["users"], rows_file["clicked"]
    costs = _compute_costs(scorers, by_name, facts["train_rows"])
    rows = []
    for spec in scorers:
        found = by_name[spec.name]
        aucs = [x.auc for x in found]
        row: dict[str, Any] = {
            "name": spec.name,
            "auc_mean": float(np.mean(aucs)),
            "auc_sd": float(np.std(aucs, ddof=1)) if len(aucs) > 1 else None,
            "gauc_mean": _mean(found, "gauc"),
            "log_loss_mean": _mean(found, "log_loss"),
            "eval_auc_mean": _mean(found, "eval_auc"),
            "gain": None,
            "gain_low": None,
            "gain_high": None,
            "gap_share": None,
            "cost_ratio": costs[spec.name] / costs[CONTROL],
            "note": spec.note,
        }
        if spec.name != CONTROL:
            difference = bootstrap_auc_difference(
                users, clicked, scores[spec.name], scores[CONTROL], CONFIDENCE, _SAMPLES
            )
            row |= {
                "gain": difference.value,
                "gain_low": difference.interval[0],
                "gain_high": difference.interval[1],
            }
        rows.append(row)
    teacher = next(row for row in rows if row["name"] == TEACHER)
    if teacher["gain_low"] > 0:
        for row in rows:
            if row["gain"] is not None:
                row["gap_share"] = row["gain"] / teacher["gain"]
    return {"rows": rows, "protocol": {**facts, "seeds": sorted({x.seed for x in results})}}


def _mean(found: Sequence[Measured], metric: str) -> float:
    return float(np.mean([getattr(x, metric) for x in found]))


def _compute_costs(
    scorers: Sequence[ScorerSpec], by_name: Mapping[str, Sequence[Measured]], train_rows: Mapping[str, int]
) -> dict[str, float]:
    """Seconds of the processor per row and epoch; the first epoch does not count.

    It reads rows, traces the graph and asks a frozen teacher, whose scores are kept for the others.
    """

    def own(spec: ScorerSpec) -> float:
        epochs = [np.median(x.epoch_seconds[1:] or x.epoch_seconds) for x in by_name[spec.name]]
        return float(np.mean(epochs)) / train_rows[spec.days]

    seconds = {spec.name: own(spec) for spec in scorers}
    return {
        spec.name: seconds[spec.name] + (seconds[spec.taught_by] if spec.taught_by else 0.0)
        for spec in scorers
    }

"""PrerankGate: everything a pre-ranking model must satisfy."""

import dataclasses
import json
import os
from typing import Any

import numpy as np
import pandas as pd
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Model, ModelEvaluation

from components.artifacts import GateReport
from components.gates import Check, is_live, read_json, write_gate_report
from components.prerank_evaluator.component import CANDIDATE, CONTROL, LIVE
from components.prerank_evaluator.evaluate import ALL, METRICS_FILE, MODELS, SCORES_FILE, USER_COLUMN
from components.prerank_evaluator.metrics import bootstrap_auc_difference, compute_auc
from components.prerank_evaluator.tfma_metrics import AUC, CALIBRATION
from schemas import features as f

_RANDOM = "random"


@component
def PrerankGate(
    packages: InputArtifact[Model],
    live: InputArtifact[Model],
    evaluation: InputArtifact[ModelEvaluation],
    report: OutputArtifact[GateReport],
    thresholds: Parameter[str],
    code_fingerprint: Parameter[str],
) -> None:
    """Checks the candidate; `FunnelGate` acts on the report.

    Args:
      packages: the candidate.
      live: what is live; a candidate of equal content is not compared with itself.
      evaluation: metrics and scores of the candidate, the control and the live model.
      report: all checks with their numbers.
      thresholds: JSON of `PrerankThresholds`.
      code_fingerprint: see `pipelines.code_fingerprint`.
    """
    checks = check_prerank(
        pd.read_parquet(os.path.join(evaluation.uri, SCORES_FILE)),
        read_json(os.path.join(evaluation.uri, METRICS_FILE)),
        PrerankThresholds(**json.loads(thresholds)),
        compare_with_live=not is_live(packages, live),
    )
    write_gate_report(report, checks)


@dataclasses.dataclass(frozen=True)
class PrerankThresholds:
    """See `pipelines.config.GateConfig`, whose values these are."""

    min_auc: float
    control_tolerance: float
    live_auc_tolerance: float
    max_calibration_error: float
    confidence: float
    bootstrap_samples: int


def check_prerank(
    scores: pd.DataFrame, metrics: dict[str, Any], thresholds: PrerankThresholds, compare_with_live: bool
) -> list[Check]:
    """All checks of a pre-ranking model.

    Args:
      scores: the evaluator's, row by row.
      metrics: the evaluator's report.
      thresholds: the bounds.
      compare_with_live: whether a live model, if one was evaluated, is a bound.
    """
    candidate = metrics[MODELS][CANDIDATE][ALL]
    auc, calibration = (np.nan if candidate[x] is None else candidate[x] for x in (AUC, CALIBRATION))
    others = {CONTROL: thresholds.control_tolerance}
    if compare_with_live and LIVE in scores.columns:
        others[LIVE] = thresholds.live_auc_tolerance
    return [
        Check("auc, floor", auc, thresholds.min_auc),
        _compare(scores, _RANDOM, 0.0, thresholds),
        *(_compare(scores, other, -tolerance, thresholds) for other, tolerance in others.items()),
        Check(
            "calibration error",
            abs(calibration - 1.0),
            thresholds.max_calibration_error,
            at_most=True,
            detail=f"mean prediction / mean label = {calibration:.4f}",
        ),
    ]


def _compare(scores: pd.DataFrame, other: str, bound: float, thresholds: PrerankThresholds) -> Check:
    """The candidate's AUC against another model's, by a bootstrap over users.

    Args:
      scores: of all models.
      other: the other model; a random order has AUC ½, as equal scores have.
      bound: what the difference's lower bound must reach.
      thresholds: how the lower bound is computed.
    """
    users, labels = scores[USER_COLUMN].to_numpy(), scores[f.CLICKED].to_numpy()
    ours = scores[CANDIDATE].to_numpy()
    theirs = np.zeros(len(scores)) if other == _RANDOM else scores[other].to_numpy()
    difference = bootstrap_auc_difference(
        users, labels, ours, theirs, thresholds.confidence, thresholds.bootstrap_samples
    )
    detail = (
        f"{compute_auc(labels, ours):.4f} against {compute_auc(labels, theirs):.4f}, difference "
        f"{difference.value:+.4f}; its {thresholds.confidence:.0%} lower bound over {users.max() + 1} users "
        "is compared"
    )
    # As good as a random order is not enough; as good as control or what is live, or within a tolerance, is.
    return Check(
        f"auc, against {other}", difference.lower_bound, bound, above=other == _RANDOM, detail=detail
    )

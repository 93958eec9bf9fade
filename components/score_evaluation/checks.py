"""What a model of pairs must satisfy, whatever the stage."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from components.gates import Check
from components.score_evaluation.evaluate import ALL, MODELS, USER_COLUMN
from components.score_evaluation.metrics import bootstrap_auc_difference, compute_auc
from components.score_evaluation.tfma_metrics import AUC, CALIBRATION
from schemas import features as f

CANDIDATE = "candidate"
LIVE = "live"
_RANDOM = "random"


@dataclasses.dataclass(frozen=True)
class ScoreThresholds:
    """See `pipelines.config.GateConfig`.

    Attributes:
      min_auc: what AUC must reach.
      tolerances: AUC that may be lost against each other model, by name.
      live_auc_tolerance: the same against what is live.
      max_calibration_error: |mean prediction / mean label - 1|.
      confidence: one-sided, of the bounds of differences.
      bootstrap_samples: of a difference.
    """

    min_auc: float
    tolerances: Mapping[str, float]
    live_auc_tolerance: float
    max_calibration_error: float
    confidence: float
    bootstrap_samples: int


def check_scores(
    scores: pd.DataFrame, metrics: dict[str, Any], thresholds: ScoreThresholds, compare_with_live: bool
) -> list[Check]:
    """All checks of a candidate.

    Args:
      scores: the evaluator's, row by row.
      metrics: the evaluator's report.
      thresholds: the bounds.
      compare_with_live: whether a live model, if one was evaluated, is a bound.
    """
    candidate = metrics[MODELS][CANDIDATE][ALL]
    auc, calibration = (np.nan if candidate[x] is None else candidate[x] for x in (AUC, CALIBRATION))
    others = dict(thresholds.tolerances)
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


def _compare(scores: pd.DataFrame, other: str, bound: float, thresholds: ScoreThresholds) -> Check:
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
    # As good as a random order is not enough; as good as another or what is live, or within a tolerance, is.
    return Check(
        f"auc, against {other}", difference.lower_bound, bound, above=other == _RANDOM, detail=detail
    )

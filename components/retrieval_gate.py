"""RetrievalGate: everything a retrieval model must satisfy."""

import dataclasses
import json
import os
from typing import Any

import pandas as pd
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Model, ModelEvaluation

from components.artifacts import GateReport, IndexReport
from components.gates import Check, is_live, read_json, write_gate_report
from components.index_builder.build import REPORT_FILE as INDEX_REPORT_FILE
from components.retrieval_evaluator.component import CANDIDATE, LIVE
from components.retrieval_evaluator.evaluate import (
    INDEX,
    ITEM_TO_ITEM,
    METRICS_FILE,
    PAIRS_PER_USER_FILE,
    PER_USER_FILE,
    POPULARITY,
    RANDOM,
)
from components.retrieval_evaluator.metrics import bootstrap_lower_bound

METRIC = "recall_100"


@component
def RetrievalGate(
    packages: InputArtifact[Model],
    live: InputArtifact[Model],
    evaluation: InputArtifact[ModelEvaluation],
    index_report: InputArtifact[IndexReport],
    report: OutputArtifact[GateReport],
    thresholds: Parameter[str],
    code_fingerprint: Parameter[str],
) -> None:
    """Checks the candidate; `FunnelGate` acts on the report.

    Args:
      packages: the candidate.
      live: what is live; a candidate of equal content is not compared with itself.
      evaluation: per-user metrics of the candidate, the live model and the baselines.
      index_report: latency of the ScaNN index.
      report: all checks with their numbers.
      thresholds: JSON of `RetrievalThresholds`.
      code_fingerprint: see `pipelines.code_fingerprint`.
    """
    bounds = RetrievalThresholds(**json.loads(thresholds))
    metrics = read_json(os.path.join(evaluation.uri, METRICS_FILE))
    checks = check_retrieval(
        pd.read_parquet(os.path.join(evaluation.uri, PER_USER_FILE)),
        metrics,
        read_json(os.path.join(index_report.uri, INDEX_REPORT_FILE)),
        bounds,
        compare_with_live=not is_live(packages, live),
    )
    if metrics[ITEM_TO_ITEM] is not None:  # else the source has no sessions, and nothing to compare
        pairs_per_user = pd.read_parquet(os.path.join(evaluation.uri, PAIRS_PER_USER_FILE))
        checks += check_item_to_item(pairs_per_user, bounds)
    write_gate_report(report, checks)


@dataclasses.dataclass(frozen=True)
class RetrievalThresholds:
    """See `pipelines.config.GateConfig` and `IndexConfig`, whose values these are."""

    min_recall_100: float
    live_tolerance: float
    item_to_item_tolerance: float
    confidence: float
    bootstrap_samples: int
    min_index_recall: float
    max_index_latency_ms: float


def check_retrieval(
    per_user: pd.DataFrame,
    metrics: dict[str, Any],
    index: dict[str, Any],
    thresholds: RetrievalThresholds,
    compare_with_live: bool,
) -> list[Check]:
    """All checks of a retrieval model.

    Args:
      per_user: one row per model and user, with `METRIC`.
      metrics: the evaluator's report.
      index: the index builder's report, for the latency.
      thresholds: the bounds.
      compare_with_live: whether a live model, if one was evaluated, is a bound.
    """
    by_user = per_user.pivot(index="user_id", columns="model", values=METRIC)
    recall = metrics["models"][CANDIDATE]["all"][METRIC]
    checks = [Check(f"{METRIC}, floor", recall, thresholds.min_recall_100)]
    comparisons = [(POPULARITY, 0.0), (RANDOM, 0.0)]
    if compare_with_live and LIVE in by_user.columns:
        comparisons.append((LIVE, -thresholds.live_tolerance))
    for other, bound in comparisons:
        checks.append(_compare(f"{METRIC}, against {other}", by_user, other, bound, thresholds))
    agreement = metrics[INDEX][CANDIDATE]
    for key, name in (("recall", "index"), ("similar_recall", "item to item index")):
        value = agreement[key]
        checks.append(Check(f"{name} recall at {agreement['depth']}", value, thresholds.min_index_recall))
    checks.append(
        Check("index latency ms", index["latency_ms"]["p50"], thresholds.max_index_latency_ms, at_most=True)
    )
    return checks


def check_item_to_item(pairs_per_user: pd.DataFrame, thresholds: RetrievalThresholds) -> list[Check]:
    """The checks of `similar`.

    Args:
      pairs_per_user: one row per model and user with a pair, with `METRIC`.
      thresholds: the bounds.
    """
    by_user = pairs_per_user.pivot(index="user_id", columns="model", values=METRIC)
    bounds = {POPULARITY: -thresholds.item_to_item_tolerance, RANDOM: 0.0}
    return [
        _compare(f"item to item {METRIC}, against {other}", by_user, other, bound, thresholds)
        for other, bound in bounds.items()
    ]


def _compare(
    name: str, by_user: pd.DataFrame, other: str, bound: float, thresholds: RetrievalThresholds
) -> Check:
    """The candidate against another model, by the users' differences.

    Args:
      name: what is compared.
      by_user: `METRIC` by user (rows) and model (columns).
      other: the other model.
      bound: what the difference's lower bound must reach.
      thresholds: how the lower bound is computed.
    """
    difference = (by_user[CANDIDATE] - by_user[other]).to_numpy()
    mean, lower = bootstrap_lower_bound(difference, thresholds.confidence, thresholds.bootstrap_samples)
    detail = (
        f"{by_user[CANDIDATE].mean():.4f} against {by_user[other].mean():.4f}, difference {mean:+.4f}; its "
        f"{thresholds.confidence:.0%} lower bound over {len(difference)} users is compared"
    )
    # As good as a baseline is not enough; as good as what is live, or within a tolerance, is.
    return Check(name, lower, bound, above=other != LIVE, detail=detail)

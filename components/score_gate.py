"""ScoreGate: everything a model of pairs must satisfy, of pre-ranking or of ranking."""

import json
import os

import pandas as pd
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Model, ModelEvaluation

from components.artifacts import GateReport
from components.gates import is_live, read_json, write_gate_report
from components.score_evaluation.checks import ScoreThresholds, check_scores
from components.score_evaluation.evaluate import METRICS_FILE, SCORES_FILE


@component
def ScoreGate(
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
      evaluation: metrics and scores of the candidate, of what it is compared with, and of the live model.
      report: all checks with their numbers.
      thresholds: JSON of `ScoreThresholds`.
      code_fingerprint: see `pipelines.code_fingerprint`.
    """
    checks = check_scores(
        pd.read_parquet(os.path.join(evaluation.uri, SCORES_FILE)),
        read_json(os.path.join(evaluation.uri, METRICS_FILE)),
        ScoreThresholds(**json.loads(thresholds)),
        compare_with_live=not is_live(packages, live),
    )
    write_gate_report(report, checks)

"""RankEvaluator: the ranker, the stage before it and what is live on the same test rows."""

# mypy: disable-error-code="type-arg,attr-defined,arg-type,call-overload"
# (TFX reads the annotations itself: inside the body they are artifacts and values)

import apache_beam as beam
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples, Model, ModelEvaluation

from components.funnel_builder.rank_package import RANK_SCORE_SIGNATURE
from components.score_evaluation.checks import CANDIDATE
from components.score_evaluation.models import evaluate_models

PRERANK = "prerank"


@component(use_beam=True)
def RankEvaluator(
    ranker: InputArtifact[Model],
    prerank_student: InputArtifact[Model],
    live: InputArtifact[Model],
    impressions: InputArtifact[Examples],
    evaluation: OutputArtifact[ModelEvaluation],
    schema: Parameter[str],
    code_fingerprint: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Evaluates ranking on the test split; see `evaluate_models`.

    Args:
      ranker: the candidate.
      prerank_student: of the stage before: a ranker that orders no better adds nothing.
      live: what `LiveModel` found.
      impressions: raw.
      evaluation: see `evaluate_scorers`.
      schema: the source's.
      code_fingerprint: see `pipelines.code_fingerprint`.
      beam_pipeline: where it runs.
    """
    trained = {CANDIDATE: ranker, PRERANK: prerank_student}
    evaluate_models(trained, live, RANK_SCORE_SIGNATURE, impressions, schema, evaluation, beam_pipeline)

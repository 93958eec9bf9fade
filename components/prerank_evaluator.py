"""PrerankEvaluator: student, control, teacher and what is live on the same test rows."""

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

from components.funnel_builder.prerank_package import PRERANK_SCORE_SIGNATURE
from components.score_evaluation.checks import CANDIDATE
from components.score_evaluation.models import evaluate_models

CONTROL = "control"
TEACHER = "teacher"


@component(use_beam=True)
def PrerankEvaluator(
    student: InputArtifact[Model],
    control: InputArtifact[Model],
    teacher: InputArtifact[Model],
    live: InputArtifact[Model],
    impressions: InputArtifact[Examples],
    evaluation: OutputArtifact[ModelEvaluation],
    schema: Parameter[str],
    code_fingerprint: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Evaluates pre-ranking on the test split; see `evaluate_models`.

    Args:
      student: the candidate.
      control: the same without a teacher.
      teacher: the student's.
      live: what `LiveModel` found.
      impressions: raw.
      evaluation: see `evaluate_scorers`.
      schema: the source's.
      code_fingerprint: see `pipelines.code_fingerprint`.
      beam_pipeline: where it runs.
    """
    trained = {CANDIDATE: student, CONTROL: control, TEACHER: teacher}
    evaluate_models(trained, live, PRERANK_SCORE_SIGNATURE, impressions, schema, evaluation, beam_pipeline)

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
from tfx.utils import path_utils

from components.event_ingest.component import DRAWN_PER_CLICK
from components.flavours import BRUTE_FORCE, package_dir
from components.funnel_builder.prerank_package import PRERANK_SCORE_SIGNATURE
from components.prerank_evaluator.evaluate import ALL, MODELS, evaluate_scorers, find_slice_features
from components.prerank_evaluator.scoring import find_scorer
from components.prerank_evaluator.tfma_metrics import AUC, GAUC
from trainers.prerank.export import SCORE_SIGNATURE

CANDIDATE = "candidate"
CONTROL = "control"
TEACHER = "teacher"
LIVE = "live"


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
    """Evaluates on the test split; every model is fed raw examples, since vocabularies differ.

    What is live is left out where it has no pre-ranking, as versions of retrieval alone have none. AUC and
    GAUC are custom properties of the evaluation, for the lineage.

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
    scorers = {}
    for name, model in trained.items():
        path = path_utils.serving_model_path(model.uri)
        scorers[name] = find_scorer(path, SCORE_SIGNATURE)
        if scorers[name] is None:
            raise ValueError(
                f"{path}: expected a SavedModel with the signature {SCORE_SIGNATURE}; train again"
            )
    live_scorer = find_scorer(package_dir(live.uri, BRUTE_FORCE), PRERANK_SCORE_SIGNATURE)
    if live_scorer is not None:
        scorers[LIVE] = live_scorer
    report = evaluate_scorers(
        scorers,
        impressions.uri,
        find_slice_features(schema),
        evaluation.uri,
        beam_pipeline,
        drawn_per_click=impressions.get_int_custom_property(DRAWN_PER_CLICK),
    )
    for name, slices in report[MODELS].items():
        headline = {metric: slices[ALL][metric] for metric in (AUC, GAUC)}
        evaluation.set_json_value_custom_property(name, headline)

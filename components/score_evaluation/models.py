"""The models of a stage, trained and live, on the same test rows."""

from collections.abc import Mapping

import apache_beam as beam
from tfx.types.artifact import Artifact
from tfx.utils import path_utils

from components.event_ingest.component import DRAWN_PER_CLICK
from components.flavours import BRUTE_FORCE, package_dir
from components.score_evaluation.checks import LIVE
from components.score_evaluation.evaluate import ALL, MODELS, evaluate_scorers, find_slice_features
from components.score_evaluation.scoring import find_scorer
from components.score_evaluation.tfma_metrics import AUC, GAUC
from trainers.raw_features import SCORE_SIGNATURE


def evaluate_models(
    trained: Mapping[str, Artifact],
    live: Artifact,
    live_signature: str,
    impressions: Artifact,
    schema: str,
    evaluation: Artifact,
    pipeline: beam.Pipeline,
) -> None:
    """Evaluates on the test split; every model is fed raw examples, since vocabularies differ.

    What is live is left out where it has no such stage. AUC and GAUC are custom properties of the evaluation,
    for the lineage.

    Args:
      trained: models by name, as their trainers wrote them.
      live: what `LiveModel` found.
      live_signature: of the stage, in what is pushed.
      impressions: raw.
      schema: the source's.
      evaluation: see `evaluate_scorers`.
      pipeline: where it runs.

    Raises:
      ValueError: if a trained model has no signature that scores.
    """
    scorers = {}
    for name, model in trained.items():
        path = path_utils.serving_model_path(model.uri)
        scorer = find_scorer(path, SCORE_SIGNATURE)
        if scorer is None:
            raise ValueError(
                f"{path}: expected a SavedModel with the signature {SCORE_SIGNATURE}; train again"
            )
        scorers[name] = scorer
    live_scorer = find_scorer(package_dir(live.uri, BRUTE_FORCE), live_signature)
    if live_scorer is not None:
        scorers[LIVE] = live_scorer
    report = evaluate_scorers(
        scorers,
        impressions.uri,
        find_slice_features(schema),
        evaluation.uri,
        pipeline,
        drawn_per_click=impressions.get_int_custom_property(DRAWN_PER_CLICK),
    )
    for name, slices in report[MODELS].items():
        headline = {metric: slices[ALL][metric] for metric in (AUC, GAUC)}
        evaluation.set_json_value_custom_property(name, headline)

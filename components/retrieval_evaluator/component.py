"""RetrievalEvaluator: the candidate, what is live, popularity and random on the same test queries."""

# mypy: disable-error-code="type-arg,attr-defined,arg-type,call-overload"
# (TFX reads the annotations itself: inside the body they are artifacts and values)

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, Model, ModelEvaluation, TransformGraph

from components.flavours import BRUTE_FORCE, SCANN, package_dir, package_folders
from components.live_model import VERSION_PROPERTY
from components.retrieval_evaluator.evaluate import ITEM_TO_ITEM, evaluate_packages
from components.retrieval_evaluator.vocabularies import check_vocabularies

CANDIDATE = "candidate"
LIVE = "live"
HEADLINE_METRICS = ("recall_100", "ndcg_10")


@component
def RetrievalEvaluator(
    packages: InputArtifact[Model],
    live: InputArtifact[Model],
    transform_graph: InputArtifact[TransformGraph],
    impressions: InputArtifact[Examples],
    items: InputArtifact[Examples],
    evaluation: OutputArtifact[ModelEvaluation],
    exclude_seen: Parameter[bool],
    session_gap_seconds: Parameter[int],
    code_fingerprint: Parameter[str],
) -> None:
    """Evaluates on the test split; the live model is fed raw examples, since its vocabulary differs.

    The means in `HEADLINE_METRICS` are custom properties of the evaluation, for the lineage.
    """
    folders = package_folders(packages.uri)
    check_vocabularies(folders.values(), transform_graph.uri)
    models = {CANDIDATE: folders[BRUTE_FORCE]}
    if live.get_string_custom_property(VERSION_PROPERTY):
        models[LIVE] = package_dir(live.uri, BRUTE_FORCE)
    report = evaluate_packages(
        models,
        {CANDIDATE: folders[SCANN]},
        impressions.uri,
        [f"{items.uri}/Split-{s}/*" for s in artifact_utils.decode_split_names(items.split_names)],
        evaluation.uri,
        exclude_seen,
        session_gap_seconds,
    )
    for prefix, part in (("", report), (f"{ITEM_TO_ITEM}_", report[ITEM_TO_ITEM])):
        for name, slices in part["models"].items() if part else ():
            headline = {metric: slices["all"][metric] for metric in HEADLINE_METRICS}
            evaluation.set_json_value_custom_property(f"{prefix}{name}", headline)

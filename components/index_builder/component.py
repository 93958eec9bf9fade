"""IndexBuilder: the trained towers of both models and the whole catalogue to two servable packages."""

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, Model
from tfx.utils import path_utils

from components.artifacts import IndexReport
from components.index_builder.build import build_packages


@component
def IndexBuilder(
    model: InputArtifact[Model],
    item_to_item_model: InputArtifact[Model],
    items: InputArtifact[Examples],
    impressions: InputArtifact[Examples],
    packages: OutputArtifact[Model],
    report: OutputArtifact[IndexReport],
    depth: Parameter[int],
    target_recall: Parameter[float],
    code_fingerprint: Parameter[str],
) -> None:
    """Builds the exact and the ScaNN package; the users' index is tuned on evaluation queries.

    The report's headline is its custom properties, for the lineage.
    """
    built = build_packages(
        towers_dir=path_utils.serving_model_path(model.uri),
        item_towers_dir=path_utils.serving_model_dir(item_to_item_model.uri),
        item_patterns=[
            f"{items.uri}/Split-{s}/*" for s in artifact_utils.decode_split_names(items.split_names)
        ],
        query_patterns=[f"{impressions.uri}/Split-eval/*"],
        packages_dir=packages.uri,
        report_dir=report.uri,
        depth=depth,
        target_recall=target_recall,
    )
    report.set_int_custom_property("num_items", built["num_items"])
    report.set_int_custom_property("depth", built["depth"])
    report.set_float_custom_property("recall", built["recall"])
    report.set_float_custom_property("latency_ms_p50", built["latency_ms"]["p50"])

"""FunnelBuilder: the models of all stages to what is pushed."""

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, Model
from tfx.utils import path_utils

from components.funnel_builder.build import FunnelDepths, build_funnel
from schemas import features as f


@component
def FunnelBuilder(
    retrieval_packages: InputArtifact[Model],
    student: InputArtifact[Model],
    ranker: InputArtifact[Model],
    items: InputArtifact[Examples],
    packages: OutputArtifact[Model],
    schema: Parameter[str],
    prerank_depth: Parameter[int],
    rank_depth: Parameter[int],
    code_fingerprint: Parameter[str],
) -> None:
    """Builds a package of all stages for every flavour; see `build_funnel`.

    Args:
      retrieval_packages: the IndexBuilder's.
      student: the pre-ranking student.
      ranker: the ranking model.
      items: the catalogue.
      packages: laid out as the IndexBuilder's.
      schema: the source's, whose privileged features nothing served may read.
      prerank_depth: items that pre-ranking returns at most.
      rank_depth: the same of ranking.
      code_fingerprint: see `pipelines.code_fingerprint`.
    """
    features = f.read_features(
        f.load_schema(schema, f.ExampleType.IMPRESSION), f.Role.PRIVILEGED, f.Role.PRIVILEGED_POST_EVENT
    )
    build_funnel(
        retrieval_dir=retrieval_packages.uri,
        student_dir=path_utils.serving_model_path(student.uri),
        ranker_dir=path_utils.serving_model_path(ranker.uri),
        item_patterns=[
            f"{items.uri}/Split-{s}/*" for s in artifact_utils.decode_split_names(items.split_names)
        ],
        funnel_dir=packages.uri,
        depths=FunnelDepths(prerank=prerank_depth, rank=rank_depth),
        privileged_names=[feature.name for feature in features],
    )

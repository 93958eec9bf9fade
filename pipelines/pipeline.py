"""The DAG, in data order."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from tfx.components import ExampleValidator, StatisticsGen, Trainer, Transform
from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
from tfx.dsl.components.base.base_node import BaseNode
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline
from tfx.proto.pusher_pb2 import PushDestination
from tfx.proto.trainer_pb2 import EvalArgs, TrainArgs
from tfx.types.channel import BaseChannel

from components.anomaly_gate import AnomalyGate
from components.event_ingest.component import EventIngest
from components.flavours import find_live_version
from components.funnel_builder.component import FunnelBuilder
from components.funnel_gate import FunnelGate
from components.index_builder.component import IndexBuilder
from components.live_model import LiveModel
from components.prerank_evaluator import CONTROL, PrerankEvaluator
from components.rank_evaluator import PRERANK, RankEvaluator
from components.retrieval_evaluator.component import RetrievalEvaluator
from components.retrieval_gate import RetrievalGate, RetrievalThresholds
from components.run_report.component import RunReport
from components.score_evaluation.checks import ScoreThresholds
from components.score_gate import ScoreGate
from components.version_pusher import VersionPusher
from pipelines.code_fingerprint import compute_code_fingerprint as fingerprint
from pipelines.config import RunConfig
from pipelines.config_checks import check_config
from pipelines.crosses import select_crosses
from pipelines.paths import RunPaths
from pipelines.warm_start import find_origin
from schemas.features import ExampleType, write_schema
from sources.event_log import EventLog

PIPELINE_NAME = "winnow"


def create_pipeline(events: EventLog, config: RunConfig, paths: RunPaths) -> Pipeline:
    """The whole DAG.

    Args:
      events: the event log.
      config: what the run was told.
      paths: where artifacts, metadata and pushed versions go.
    """
    source = events.manifest.schema
    check_config(source, config)
    schema_files = {kind: write_schema(source, kind, paths.schemas) for kind in ExampleType}

    # TFX caches by inputs and parameters: the fingerprints are how edited data and code run again.
    ingest = EventIngest(
        events_dir=str(events.path),
        events_fingerprint=events.fingerprint(),
        schema_fingerprint=" ".join(path.stem for path in schema_files.values()),
        code_fingerprint=fingerprint("components.event_ingest.component"),
        **dataclasses.asdict(config.splits),
        negatives_per_click=config.negatives.per_click,
    )
    validation = {
        kind: _make_validation_nodes(kind, ingest.outputs[f"{kind.value}s"], schema_files[kind])
        for kind in ExampleType
    }
    # ExampleValidator only marks anomalies; this stops the run at them, and at rows that know the future.
    anomaly_gate = AnomalyGate(
        **{f"{kind.value}_anomalies": nodes[-1].outputs["anomalies"] for kind, nodes in validation.items()},
        impressions=ingest.outputs["impressions"],
        pages=ingest.outputs["pages"],
        code_fingerprint=fingerprint("components.anomaly_gate"),
    )
    # Vocabularies, buckets and normalisers see the training split alone.
    transform = Transform(
        examples=ingest.outputs["impressions"],
        schema=validation[ExampleType.IMPRESSION][1].outputs["schema"],
        preprocessing_fn="trainers.preprocessing.preprocessing_fn",
        custom_config={
            "schema": source,
            "crosses": select_crosses(source, config.transform),
            "code_fingerprint": fingerprint("trainers.preprocessing"),
        },
        disable_statistics=True,
    )
    transform.add_upstream_node(anomaly_gate)
    retrieval_trainer = _make_trainer(
        "RetrievalTrainer",
        "trainers.retrieval.runner",
        transform,
        config=dataclasses.asdict(config.retrieval),
        origin=dataclasses.asdict(find_origin(events, config, paths)),
    )
    # The same towers with another query: the item clicked before. What `similar` answers from.
    item_to_item_trainer = _make_trainer(
        "ItemToItemTrainer",
        "trainers.retrieval.runner",
        transform,
        item_to_item_config=dataclasses.asdict(config.item_to_item),
    )
    index_builder = IndexBuilder(
        model=retrieval_trainer.outputs["model"],
        item_to_item_model=item_to_item_trainer.outputs["model"],
        items=ingest.outputs["items"],
        impressions=ingest.outputs["impressions"],
        depth=config.index.depth,
        target_recall=config.index.target_recall,
        code_fingerprint=fingerprint("components.index_builder.component"),
    )
    prerank_configs = {"teacher_config": dataclasses.asdict(config.prerank_teacher)}
    prerank_teacher_trainer = _make_trainer(
        "PrerankTeacherTrainer", "trainers.prerank.runner", transform, **prerank_configs
    )
    # The same as the student without a teacher: what shows whether the teacher helps.
    prerank_configs["student_config"] = dataclasses.asdict(config.prerank)
    prerank_control_trainer = _make_trainer(
        "PrerankControlTrainer", "trainers.prerank.runner", transform, **prerank_configs
    )
    prerank_student_trainer = _make_trainer(
        "PrerankStudentTrainer",
        "trainers.prerank.runner",
        transform,
        base_model=prerank_teacher_trainer.outputs["model"],
        **prerank_configs,
        distillation_config=dataclasses.asdict(config.distillation),
    )
    rank_trainer = _make_trainer(
        "RankTrainer",
        "trainers.ranking.runner",
        transform,
        base_model=prerank_teacher_trainer.outputs["model"],
        ranker_config=dataclasses.asdict(config.ranking),
        distillation_config=dataclasses.asdict(config.distillation),
    )
    # What is pushed: the stages of one run, whole.
    funnel_builder = FunnelBuilder(
        retrieval_packages=index_builder.outputs["packages"],
        student=prerank_student_trainer.outputs["model"],
        ranker=rank_trainer.outputs["model"],
        items=ingest.outputs["items"],
        schema=source,
        prerank_depth=config.prerank.depth,
        rank_depth=config.ranking.depth,
        code_fingerprint=fingerprint("components.funnel_builder.component"),
    )
    live_model = LiveModel(
        serving_dir=str(paths.serving),
        version=find_live_version(paths.serving),
        code_fingerprint=fingerprint("components.live_model"),
    )
    retrieval_evaluator = RetrievalEvaluator(
        packages=funnel_builder.outputs["packages"],
        live=live_model.outputs["live"],
        transform_graph=transform.outputs["transform_graph"],
        impressions=ingest.outputs["impressions"],
        items=ingest.outputs["items"],
        exclude_seen=config.gates.exclude_seen,
        session_gap_seconds=config.item_to_item.session_gap_seconds,
        code_fingerprint=fingerprint("components.retrieval_evaluator.component"),
    )
    retrieval_gate = RetrievalGate(
        packages=funnel_builder.outputs["packages"],
        live=live_model.outputs["live"],
        evaluation=retrieval_evaluator.outputs["evaluation"],
        index_report=index_builder.outputs["report"],
        thresholds=json.dumps(dataclasses.asdict(_make_retrieval_thresholds(config))),
        code_fingerprint=fingerprint("components.retrieval_gate"),
    )
    prerank_evaluator = PrerankEvaluator(
        student=prerank_student_trainer.outputs["model"],
        control=prerank_control_trainer.outputs["model"],
        teacher=prerank_teacher_trainer.outputs["model"],
        live=live_model.outputs["live"],
        impressions=ingest.outputs["impressions"],
        schema=source,
        code_fingerprint=fingerprint("components.prerank_evaluator"),
    )
    rank_evaluator = RankEvaluator(
        ranker=rank_trainer.outputs["model"],
        prerank_student=prerank_student_trainer.outputs["model"],
        live=live_model.outputs["live"],
        impressions=ingest.outputs["impressions"],
        schema=source,
        code_fingerprint=fingerprint("components.rank_evaluator"),
    )
    prerank_gate, rank_gate = (
        ScoreGate(
            packages=funnel_builder.outputs["packages"],
            live=live_model.outputs["live"],
            evaluation=evaluator.outputs["evaluation"],
            thresholds=json.dumps(dataclasses.asdict(_make_score_thresholds(config, tolerances))),
            code_fingerprint=fingerprint("components.score_gate"),
        ).with_id(node_id)
        for node_id, evaluator, tolerances in (
            ("PrerankGate", prerank_evaluator, {CONTROL: config.gates.control_tolerance}),
            ("RankGate", rank_evaluator, {PRERANK: config.gates.prerank_tolerance}),
        )
    )
    # Pusher takes one blessing: the checks of all stages merge into it here.
    funnel_gate = FunnelGate(
        packages=funnel_builder.outputs["packages"],
        retrieval=retrieval_gate.outputs["report"],
        prerank=prerank_gate.outputs["report"],
        rank=rank_gate.outputs["report"],
        code_fingerprint=fingerprint("components.funnel_gate"),
    )
    pusher = VersionPusher(
        model=funnel_builder.outputs["packages"],
        model_blessing=funnel_gate.outputs["blessing"],
        push_destination=PushDestination(
            filesystem=PushDestination.Filesystem(base_directory=str(paths.serving))
        ),
        custom_config={"code_fingerprint": fingerprint("components.version_pusher")},
    ).with_id("Pusher")
    # Last, and whatever the verdict.
    run_report = RunReport(
        gate_report=funnel_gate.outputs["report"],
        pushed_model=pusher.outputs["pushed_model"],
        index_report=index_builder.outputs["report"],
        retrieval_evaluation=retrieval_evaluator.outputs["evaluation"],
        prerank_evaluation=prerank_evaluator.outputs["evaluation"],
        rank_evaluation=rank_evaluator.outputs["evaluation"],
        retrieval_run=retrieval_trainer.outputs["model_run"],
        item_to_item_run=item_to_item_trainer.outputs["model_run"],
        prerank_teacher_run=prerank_teacher_trainer.outputs["model_run"],
        prerank_control_run=prerank_control_trainer.outputs["model_run"],
        prerank_student_run=prerank_student_trainer.outputs["model_run"],
        rank_run=rank_trainer.outputs["model_run"],
        is_synthetic=events.manifest.synthetic,
        code_fingerprint=fingerprint("components.run_report.component"),
    )

    return Pipeline(
        pipeline_name=PIPELINE_NAME,
        pipeline_root=str(paths.artifacts),
        metadata_connection_config=sqlite_metadata_connection_config(str(paths.metadata)),
        enable_cache=True,
        components=[
            ingest,
            *(node for nodes in validation.values() for node in nodes),
            anomaly_gate,
            transform,
            retrieval_trainer,
            item_to_item_trainer,
            index_builder,
            prerank_teacher_trainer,
            prerank_control_trainer,
            prerank_student_trainer,
            rank_trainer,
            funnel_builder,
            live_model,
            retrieval_evaluator,
            retrieval_gate,
            prerank_evaluator,
            prerank_gate,
            rank_evaluator,
            rank_gate,
            funnel_gate,
            pusher,
            run_report,
        ],
    )


def _make_retrieval_thresholds(config: RunConfig) -> RetrievalThresholds:
    gates, index = config.gates, config.index
    return RetrievalThresholds(
        min_recall_100=gates.min_recall_100,
        live_tolerance=gates.live_tolerance,
        item_to_item_tolerance=gates.item_to_item_tolerance,
        confidence=gates.confidence,
        bootstrap_samples=gates.bootstrap_samples,
        min_index_recall=index.min_recall,
        max_index_latency_ms=index.max_latency_ms,
    )


def _make_score_thresholds(config: RunConfig, tolerances: Mapping[str, float]) -> ScoreThresholds:
    gates = config.gates
    return ScoreThresholds(
        min_auc=gates.min_auc,
        tolerances=tolerances,
        live_auc_tolerance=gates.live_auc_tolerance,
        max_calibration_error=gates.max_calibration_error,
        confidence=gates.confidence,
        bootstrap_samples=gates.bootstrap_samples,
    )


def _make_validation_nodes(kind: ExampleType, examples: BaseChannel, schema_file: Path) -> list[BaseNode]:
    """Statistics, curated schema and validation of one example type."""
    prefix = kind.value.capitalize()
    statistics = StatisticsGen(examples=examples).with_id(f"{prefix}Statistics")
    schema = ImportSchemaGen(schema_file=str(schema_file)).with_id(f"{prefix}Schema")
    validator = ExampleValidator(
        statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]
    ).with_id(f"{prefix}Validator")
    return [statistics, schema, validator]


def _make_trainer(
    node_id: str,
    module: str,
    transform: Transform,
    base_model: BaseChannel | None = None,
    **custom_config: object,
) -> Trainer:
    """A node that runs a module's `run_fn` on the transformed rows, and on what another trainer made."""
    return Trainer(
        run_fn=f"{module}.run_fn",
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        train_args=TrainArgs(splits=["train"]),
        eval_args=EvalArgs(splits=["eval"]),
        base_model=base_model,
        custom_config={**custom_config, "code_fingerprint": fingerprint(module)},
    ).with_id(node_id)

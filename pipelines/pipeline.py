"""The DAG, in data order."""

import dataclasses
import json
from pathlib import Path

from tfx.v1.components import (
    ExampleValidator,
    ImportSchemaGen,
    StatisticsGen,
    Trainer,
    Transform,
)
from tfx.dsl.components.base.base_node import BaseNode
from tfx.orchestration.pipeline import Pipeline
from tfx.v1.orchestration.metadata import sqlite_metadata_connection_config
from tfx.v1.proto import EvalArgs, TrainArgs
from tfx.v1.types import BaseChannel

from components.anomaly_gate import AnomalyGate
from components.event_ingest.component import EventIngest
from pipelines.code_fingerprint import compute_code_fingerprint
from pipelines.config import RunConfig
from schemas.features import ExampleType, write_schema
from sources.event_log import EventLog

PIPELINE_NAME = "winnow"


def create_pipeline(events: EventLog, config: RunConfig, root: Path) -> Pipeline:
    source = events.manifest.schema
    schema_files = {kind: write_schema(source, kind, root / "schemas") for kind in ExampleType}

    ingest = EventIngest(
        events_dir=str(events.path),
        events_fingerprint=events.fingerprint(),
        schema_fingerprint="".join(path.stem for path in schema_files.values()),
        code_fingerprint=compute_code_fingerprint("components.event_ingest.component"),
        **dataclasses.asdict(config.splits),
    )
    validation = {
        kind: _make_validation_nodes(kind, ingest.outputs[f"{kind.value}s"], schema_files[kind])
        for kind in ExampleType
    }
    anomaly_gate = AnomalyGate(
        **{f"{kind.value}_anomalies": nodes[-1].outputs["anomalies"] for kind, nodes in validation.items()},
        code_fingerprint=compute_code_fingerprint("components.anomaly_gate"),
    )
    transform = Transform(
        examples=ingest.outputs["impressions"],
        schema=validation[ExampleType.IMPRESSION][1].outputs["schema"],
        preprocessing_fn="trainers.preprocessing.preprocessing_fn",
        custom_config={"schema": source, "code_fingerprint": compute_code_fingerprint("trainers.preprocessing")},
        disable_statistics=True,
    )
    transform.add_upstream_node(anomaly_gate)
    return Pipeline(
        pipeline_name=PIPELINE_NAME,
        pipeline_root=str(root / "artifacts"),
        metadata_connection_config=sqlite_metadata_connection_config(str(root / "metadata.sqlite")),
        enable_cache=True,
        components=[
            ingest,
            *(node for nodes in validation.values() for node in nodes),
            anomaly_gate,
            transform,
        ],
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

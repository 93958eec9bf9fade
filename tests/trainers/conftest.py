"""Real, tiny Transform graphs and event rows for the trainers' tests."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pipelines.tensorflow_setup  # noqa: F401  isort: skip  must come before TensorFlow

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io, schema_utils
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder
from tfx_bsl.public import tfxio

from components.event_ingest.examples import encode_examples
from pipelines.config import TransformConfig
from pipelines.crosses import select_crosses
from schemas import features as f
from trainers.preprocessing import EncodedFeature, encoded_features, preprocessing_fn

HOUR_MS = 3_600_000
MONDAY_MS = 1_704_067_200_000  # Monday, 1 January 2024, 00:00 UTC
_REQUIRED = {
    "user_id": "u1",
    "item_id": "i1",
    "category": "c1",
    "timestamp": MONDAY_MS,
    "request_id": "r1",
    "position": 0,
    "clicked": 1,
    "converted": 0,
    "rating": 3.0,
}

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Rows that went through a Transform graph fitted on the training rows among them."""

    source: str
    transform: tft.TFTransformOutput
    train_pattern: str
    folder: Path

    @property
    def features(self) -> tuple[EncodedFeature, ...]:
        return encoded_features(self.transform)

    def serialize(self, rows: Sequence[Row]) -> tf.Tensor:
        """Raw tf.Examples [B]."""
        return tf.constant(_serialize(self.source, rows))

    def encode(self, rows: Sequence[Row], names: Sequence[str] | None = None) -> dict[str, Any]:
        """What the Transform graph makes of rows; of some of their features alone, where names are given."""
        schema = self.transform.raw_metadata.schema
        spec = schema_utils.schema_as_feature_spec(schema).feature_spec
        raw = tf.io.parse_example(self.serialize(rows), {name: spec[name] for name in names or spec})
        return self.transform.transform_features_layer()(raw)

    def write(self, rows: Sequence[Row], name: str) -> str:
        """Transforms further rows into a file; returns its pattern."""
        encoded = self.encode(rows)
        spec = self.transform.transformed_feature_spec()
        columns = {getattr(column, "value_key", name): encoded[name].numpy() for name, column in spec.items()}
        path = self.folder / f"{name}.gz"
        with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
            for i in range(len(rows)):
                feature = {key: _as_feature(values[i]) for key, values in columns.items()}
                example = tf.train.Example(features=tf.train.Features(feature=feature))
                writer.write(example.SerializeToString())
        return str(path)


def _as_feature(values: np.ndarray) -> tf.train.Feature:
    values = np.atleast_1d(values)
    if values.dtype.kind == "f":
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def _serialize(source: str, rows: Sequence[Row]) -> list[bytes]:
    schema = f.load_schema(source, f.ExampleType.IMPRESSION)
    rows = [{**_REQUIRED, **row} for row in rows]
    columns = {x.name: pa.array([row.get(x.name) for row in rows]) for x in schema.feature}
    return encode_examples(pa.table(columns), schema)


def fit(source: str, rows: Sequence[Row], folder: Path, transform: TransformConfig) -> Prepared:
    """Fits the preprocessing on rows the way TFX does, on Beam, and transforms them."""
    schema = f.load_schema(source, f.ExampleType.IMPRESSION)
    reader = tfxio.TFExampleBeamRecord("inmem", telemetry_descriptors=["tests"], schema=schema)
    graph = str(folder / "graph")
    custom_config = {"schema": source, "crosses": select_crosses(source, transform)}
    with beam.Pipeline() as pipeline, tft_beam.Context(temp_dir=str(folder / "tmp")):
        raw = pipeline | beam.Create(_serialize(source, rows), reshuffle=False) | reader.BeamSource()
        (batches, metadata), transform_fn = (
            raw,
            reader.TensorAdapterConfig(),
        ) | tft_beam.AnalyzeAndTransformDataset(
            lambda inputs: preprocessing_fn(inputs, custom_config), output_record_batches=True
        )
        encoder = RecordBatchToExamplesEncoder(metadata.schema)
        _ = (
            batches
            | beam.FlatMap(lambda pair: encoder.encode(pair[0]))
            | beam.io.WriteToTFRecord(str(folder / "train"), file_name_suffix=".gz")
        )
        _ = transform_fn | tft_beam.WriteTransformFn(graph)
    raw_metadata = dataset_metadata.DatasetMetadata(schema)
    metadata_io.write_metadata(raw_metadata, f"{graph}/{tft.TFTransformOutput.RAW_METADATA_DIR}")
    return Prepared(source, tft.TFTransformOutput(graph), str(folder / "train*.gz"), folder)


@pytest.fixture(scope="session")
def prepare(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Prepared]:
    """Fits a Transform graph on rows of a source; required features that a row lacks get a value."""

    def prepare(source: str, rows: Sequence[Row], transform: TransformConfig | None = None) -> Prepared:
        return fit(source, rows, tmp_path_factory.mktemp(Path(source).name), transform or TransformConfig())

    return prepare


def make_rows(source: str, count: int = 60, seed: int = 0) -> list[Row]:
    """Random rows with every optional feature of the source, some of them absent."""
    rng = np.random.default_rng(seed)
    schema = f.load_schema(source, f.ExampleType.IMPRESSION)
    features = [x for x in f.read_features(schema) if x.encodings]
    words = [f"word{i}" for i in range(12)]
    rows = []
    for number in range(count):
        row: Row = {
            "user_id": f"u{rng.integers(8)}",
            "item_id": f"i{rng.integers(12)}",
            "category": f"c{rng.integers(3)}",
            "timestamp": MONDAY_MS + int(rng.integers(0, 200)) * HOUR_MS,
            "title": " ".join(rng.choice(words, rng.integers(1, 5))),
            "clicked": int(number % 4 > 0),
        }
        length = int(rng.integers(0, 6))
        row["history_item_id"] = [f"i{i}" for i in rng.integers(0, 12, length)]
        row["history_category"] = [f"c{i}" for i in rng.integers(0, 3, length)]
        row["history_timestamp"] = [row["timestamp"] - int(s) * 1000 for s in rng.integers(1, 10**6, length)]
        for x in features:
            if x.name in row or rng.random() < 0.2:
                continue
            value: Any = f"{x.name}{rng.integers(4)}" if x.type == 1 else int(rng.integers(1, 1000))
            row[x.name] = [value] if x.is_list else value
        rows.append(row)
    return rows


@pytest.fixture(scope="session")
def marketplace(prepare: Callable[[str, Sequence[Row]], Prepared]) -> Prepared:
    """Random rows of the source with the most features."""
    return prepare("marketplace", make_rows("marketplace"))


@pytest.fixture(scope="session")
def random_rows() -> Callable[..., list[Row]]:
    """`make_rows` for tests, which cannot import this module."""
    return make_rows

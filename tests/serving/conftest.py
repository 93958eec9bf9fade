"""Small models of every stage in a push destination."""

from pipelines import tensorflow_setup  # noqa: F401, I001  (before TensorFlow)

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder
from tfx_bsl.public import tfxio

from components.event_ingest import ingest
from components.flavours import live_folders
from components.funnel_builder.build import FunnelDepths, build_funnel
from components.index_builder.build import build_packages
from components.version_pusher import push_version
from pipelines.config import TransformConfig
from pipelines.crosses import select_crosses
from schemas import features as f
from sources.event_log import ITEMS_FILE
from sources.marketplace import MarketplaceConfig, simulate
from trainers.preprocessing import encoded_features, preprocessing_fn
from trainers.prerank.config import TASKS, StudentConfig
from trainers.prerank.export import export_student
from trainers.prerank.feature_choice import select_features
from trainers.prerank.model import TwoTowerStudent
from trainers.ranking.config import RankerConfig
from trainers.ranking.export import export_ranker
from trainers.ranking.model import Ranker
from trainers.retrieval.config import RetrievalConfig
from trainers.retrieval.data import collect_items, make_rows, select_positives
from trainers.retrieval.export import export_towers
from trainers.retrieval.model import RetrievalModel
from trainers.scorers.data import REQUEST


@dataclasses.dataclass(frozen=True)
class Pushed:
    """The models of a small simulated marketplace, pushed.

    Attributes:
      directory: the push destination.
      version: what was pushed.
      test_examples: the raw impression examples [N] of the test split.
      items: the raw item examples: the catalogue.
      item_ids: their ids.
      model_dirs: the SavedModels that the package was built of, by the stage's signature.
    """

    directory: Path
    version: str
    test_examples: list[bytes]
    items: list[bytes]
    item_ids: list[bytes]
    model_dirs: Mapping[str, str]

    def load(self, flavour):
        """The signatures of the pushed SavedModel, in this process: the offline answers."""
        return tf.saved_model.load(str(live_folders(self.directory, self.version)[flavour])).signatures


@pytest.fixture(scope="session")
def pushed(tmp_path_factory):
    """Simulates, ingests, transforms, makes models of random weights, exports, packages, pushes."""
    folder = tmp_path_factory.mktemp("pushed")
    size = MarketplaceConfig(
        num_users=60, num_items=150, num_shops=60, num_days=4, requests_per_user_day=2, page_size=5
    )
    simulate(size, folder / "events")
    leave_out_brands(folder / "events" / ITEMS_FILE)
    uris = {kind.value: str(folder / kind.value) for kind in f.ExampleType}
    ingest.ingest_events(str(folder / "events"), uris, ingest.SplitFractions(0.25, 0.25), beam.Pipeline())
    impressions = uris[f.ExampleType.IMPRESSION.value]
    transform = fit_transform(f"{impressions}/Split-train/*.gz", folder)
    towers_dir, student_dir, ranker_dir = (str(folder / name) for name in ("towers", "student", "ranker"))
    rows = f"{folder}/transformed*.gz"
    export_towers(make_model(transform, rows), transform, towers_dir, {})
    export_student(make_student(transform, rows), transform, student_dir)
    export_ranker(make_ranker(transform, rows), transform, ranker_dir)
    items = [f"{uris[f.ExampleType.ITEM.value]}/*/*.gz"]
    build_packages(
        *(towers_dir, "", items, [f"{impressions}/Split-eval/*.gz"]),
        *(str(folder / "retrieval"), str(folder / "report"), 100, 0.99),
    )
    packages = str(folder / "packages")
    build_funnel(
        *(str(folder / "retrieval"), student_dir, ranker_dir, items, packages),
        *(FunnelDepths(prerank=50, rank=30), privileged_names()),
    )
    version = push_version(packages, str(folder / "serving"))
    test_examples = read(f"{impressions}/Split-test/*.gz")
    item_examples = read(*items)
    ids = [
        tf.train.Example.FromString(x).features.feature[f.ITEM_ID].bytes_list.value[0] for x in item_examples
    ]
    model_dirs = {"prerank": student_dir, "rank": ranker_dir}
    return Pushed(folder / "serving", version, test_examples, item_examples, ids, model_dirs)


def privileged_names():
    schema = f.load_schema("marketplace", f.ExampleType.IMPRESSION)
    return [x.name for x in f.read_features(schema, f.Role.PRIVILEGED, f.Role.PRIVILEGED_POST_EVENT)]


def leave_out_brands(path):
    """Makes every third item one without a brand."""
    items = pq.read_table(path)
    brands = items["brand"].to_pandas().mask(np.arange(items.num_rows) % 3 == 0, None)
    place = items.column_names.index("brand")
    pq.write_table(items.set_column(place, "brand", pa.array(brands, pa.string())), path)


def read(pattern):
    files = sorted(tf.io.gfile.glob(pattern))
    return list(tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator())


def fit_transform(pattern, folder):
    """The Transform graph of the marketplace fitted on examples, which are written transformed, on Beam."""
    schema = f.load_schema("marketplace", f.ExampleType.IMPRESSION)
    custom_config = {
        "schema": "marketplace",
        "crosses": select_crosses("marketplace", TransformConfig()),
    }
    reader = tfxio.TFExampleRecord(pattern, telemetry_descriptors=["tests"], schema=schema)
    with beam.Pipeline() as pipeline, tft_beam.Context(temp_dir=str(folder / "tmp")):
        raw = pipeline | reader.BeamSource()
        (batches, metadata), graph = (
            raw,
            reader.TensorAdapterConfig(),
        ) | tft_beam.AnalyzeAndTransformDataset(
            lambda inputs: preprocessing_fn(inputs, custom_config), output_record_batches=True
        )
        encoder = RecordBatchToExamplesEncoder(metadata.schema)
        _ = (
            batches
            | beam.FlatMap(lambda pair: encoder.encode(pair[0]))
            | beam.io.WriteToTFRecord(str(folder / "transformed"), file_name_suffix=".gz")
        )
        _ = graph | tft_beam.WriteTransformFn(str(folder / "graph"))
    raw_metadata = dataset_metadata.DatasetMetadata(schema)
    metadata_io.write_metadata(raw_metadata, f"{folder}/graph/{tft.TFTransformOutput.RAW_METADATA_DIR}")
    return tft.TFTransformOutput(str(folder / "graph"))


def make_model(transform, pattern):
    """A model whose weights are random and large: a training this short would leave most near zero."""
    tf.keras.utils.set_random_seed(3)
    features = encoded_features(transform)
    rows = make_rows([pattern], transform.transformed_feature_spec(), features)
    items = collect_items(rows, features)
    config = RetrievalConfig(embedding_dim=8, output_dim=8, num_uniform_negatives=32)
    model = RetrievalModel(features, items.catalogue, items.positive_share, config)
    model.compute_loss(next(iter(select_positives(rows))))  # creates the variables
    draw(model.trainable_variables)
    return model


def make_student(transform, pattern):
    """A pre-ranking student of both tasks, made likewise."""
    tf.keras.utils.set_random_seed(4)
    config = StudentConfig(tasks=TASKS, embedding_dim=8, hidden_dims=(16,), output_dim=8)
    features = select_features(encoded_features(transform), config)
    student = TwoTowerStudent(features, config, positive_rates=(0.1, 0.3))
    row = next(iter(make_rows([pattern], transform.transformed_feature_spec(), features)))
    student.user_vectors(row), student.item_vectors(row)  # creates the variables
    draw(x for x in student.trainable_variables if x.shape.rank > 1)  # the scale stays what it starts from
    return student


def make_ranker(transform, pattern):
    """A ranker of the default form, made likewise."""
    tf.keras.utils.set_random_seed(5)
    config = RankerConfig(embedding_dim=8, units=8, attention_dims=(8,), head_dims=(16,), product_dim=4)
    ranker = Ranker(encoded_features(transform), config, positive_rates=(0.1,))
    row = next(iter(make_rows([pattern], transform.transformed_feature_spec(), ranker.features.everything)))
    ranker({**row, REQUEST: tf.range(len(row[f.CLICKED]))})  # creates the variables
    draw(ranker.trainable_variables)
    return ranker


def draw(variables):
    for variable in variables:
        variable.assign(tf.random.normal(variable.shape, stddev=0.4))

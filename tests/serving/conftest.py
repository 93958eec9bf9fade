"""Small models in a push destination, a server on them, and clients with the stock stubs."""

from pipelines import tensorflow_setup  # noqa: F401, I001  (before TensorFlow)

import dataclasses
import http.client
import json
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import apache_beam as beam
import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder
from tfx_bsl.public import tfxio

from components.event_ingest import ingest
from components.flavours import live_folders
from components.funnel_builder.build import build_funnel
from components.index_builder.build import build_packages
from components.version_pusher import push_version
from pipelines.config import TransformConfig
from pipelines.crosses import select_crosses
from schemas import features as f
from serving.model_server.server import ModelServer
from sources.event_log import ITEMS_FILE
from sources.marketplace import MarketplaceConfig, simulate
from trainers.preprocessing import encoded_features, preprocessing_fn
from trainers.prerank.config import TASKS, StudentConfig
from trainers.prerank.export import export_student
from trainers.prerank.feature_choice import select_features
from trainers.prerank.model import TwoTowerStudent
from trainers.retrieval.config import RetrievalConfig
from trainers.retrieval.data import collect_items, make_rows, select_positives
from trainers.retrieval.export import export_towers
from trainers.retrieval.model import RetrievalModel

ROOT = Path(__file__).parents[2]
INTEGERS = (tf.int8, tf.uint8, tf.int16, tf.int32, tf.uint32, tf.int64, tf.uint64)
TYPES = (tf.bool, *INTEGERS, tf.float32, tf.float64, tf.string)


@dataclasses.dataclass(frozen=True)
class Pushed:
    """The models of a small simulated marketplace, pushed.

    Attributes:
      directory: the push destination.
      version: what was pushed.
      test_examples: the raw impression examples [N] of the test split.
      items: the raw item examples: the catalogue.
      item_ids: their ids.
      student_dir: the pre-ranking student's SavedModel, which the package was built of.
    """

    directory: Path
    version: str
    test_examples: list[bytes]
    items: list[bytes]
    item_ids: list[bytes]
    student_dir: str

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
    towers_dir, student_dir = str(folder / "towers"), str(folder / "student")
    rows = f"{folder}/transformed*.gz"
    export_towers(make_model(transform, rows), transform, towers_dir, {})
    export_student(make_student(transform, rows), transform, student_dir)
    items = [f"{uris[f.ExampleType.ITEM.value]}/*/*.gz"]
    build_packages(
        *(towers_dir, "", items, [f"{impressions}/Split-eval/*.gz"]),
        *(str(folder / "retrieval"), str(folder / "report"), 100, 0.99),
    )
    packages = str(folder / "packages")
    build_funnel(str(folder / "retrieval"), student_dir, items, packages, 50, privileged_names())
    version = push_version(packages, str(folder / "serving"))
    test_examples = read(f"{impressions}/Split-test/*.gz")
    item_examples = read(*items)
    ids = [
        tf.train.Example.FromString(x).features.feature[f.ITEM_ID].bytes_list.value[0] for x in item_examples
    ]
    return Pushed(folder / "serving", version, test_examples, item_examples, ids, student_dir)


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


def draw(variables):
    for variable in variables:
        variable.assign(tf.random.normal(variable.shape, stddev=0.4))


class Toy(tf.Module):
    """A model that says which version it is, twice: from a variable and from a constant of the graph."""

    def __init__(self, version):
        super().__init__()
        self._variable = tf.Variable(version, dtype=tf.int64)
        self._constant = version

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def double(self, x):
        return {"y": 2 * x}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, "word"),
            tf.TensorSpec([None, 3], tf.int64, "numbers"),
            tf.TensorSpec([None, None], tf.float32, "weights"),
        ]
    )
    def version(self, word, numbers, weights):
        ones = tf.ones_like(numbers[:, 0])
        total = tf.reduce_sum(weights, axis=1) + tf.cast(tf.reduce_sum(numbers, axis=1), tf.float32)
        both = {"from_variable": ones * self._variable, "from_graph": ones * self._constant}
        return {**both, "word": tf.strings.join([word, word]), "total": total}

    @tf.function(input_signature=[tf.TensorSpec([None], dtype, dtype.name) for dtype in TYPES])
    def echo(self, *inputs):
        return {f"{x.dtype.name}_out": tf.identity(x) for x in inputs}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "blob")])
    def blobs(self, blob):
        return {"blob_bytes": blob, "blob": blob}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def parse(self, examples):
        row = tf.io.parse_example(examples, {"a": tf.io.FixedLenFeature([], tf.int64)})
        return {"a": row["a"]}

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, "x")])
    def scalar(self, x):
        return {"y": x, "z": tf.stack([x, x])}

    @tf.function(input_signature=[tf.TensorSpec([], tf.int64, "steps")])
    def spin(self, steps):
        return {"steps": tf.while_loop(lambda i: i < steps, lambda i: i + 1, [tf.constant(0, tf.int64)])[0]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.complex64, "c")])
    def complex(self, c):
        return {"c": c}

    def save(self, path):
        names = ("version", "echo", "blobs", "parse", "scalar", "spin", "complex")
        signatures = {"serving_default": self.double, **{name: getattr(self, name) for name in names}}
        tf.saved_model.save(self, str(path), signatures=signatures)


@pytest.fixture(scope="session")
def toys(tmp_path_factory):
    """Saved toy models by version; `push` copies them."""
    path = tmp_path_factory.mktemp("toys")
    for version in range(1, 7):
        Toy(version).save(path / str(version))
    return path


@pytest.fixture(scope="session")
def push(toys):
    """Copies a toy beside a model's directory and renames it, as the pusher does."""

    def push(directory, version, name="toy"):
        staging = directory / f".{name}-{uuid.uuid4().hex}.tmp"
        shutil.copytree(toys / str(version), staging)
        target = directory / name / str(version)
        target.parent.mkdir(parents=True, exist_ok=True)
        staging.rename(target)
        return target

    return push


@dataclasses.dataclass
class Client:
    """One client of both protocols; not to be shared by threads."""

    grpc_port: int
    rest_port: int

    def __post_init__(self):
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        # A host that reaches the network by a proxy must not look for this server there.
        options.append(("grpc.enable_http_proxy", 0))
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.grpc_port}", options)
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.model = model_service_pb2_grpc.ModelServiceStub(self.channel)
        self.http = http.client.HTTPConnection("127.0.0.1", self.rest_port, timeout=60)

    def close(self):
        self.channel.close()
        self.http.close()

    def rest(self, path, body=None, method=None):
        """The status, what the JSON says, and the headers."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.http.request(method or ("GET" if body is None else "POST"), f"/v1/models/{path}", body)
        answer = self.http.getresponse()
        content = answer.read()
        assert answer.headers["content-type"] == "application/json"
        return answer.status, json.loads(content), answer.headers

    def predict(self, inputs, signature="", model="toy", version=None, **fields):
        """Arrays to arrays by gRPC, and the model_spec of the answer."""
        request = predict_pb2.PredictRequest(**fields)
        request.model_spec.name, request.model_spec.signature_name = model, signature
        if version is not None:
            request.model_spec.version.value = version
        for name, value in inputs.items():
            proto = value if isinstance(value, TensorProto) else tf.make_tensor_proto(value)
            request.inputs[name].CopyFrom(proto)
        answer = self.prediction.Predict(request, timeout=60)
        return {name: tf.make_ndarray(x) for name, x in answer.outputs.items()}, answer.model_spec

    def statuses(self, model="toy", version=None):
        """(version, state, error code, error message) by gRPC."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = model
        if version is not None:
            request.model_spec.version.value = version
        answer = self.model.GetModelStatus(request, timeout=60)
        states = get_model_status_pb2.ModelVersionStatus.State
        return [
            (x.version, states.Name(x.state), x.status.error_code, x.status.error_message)
            for x in answer.model_version_status
        ]

    def signatures(self, model="toy"):
        """The signature definitions by gRPC, and the model_spec of the answer."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = model
        answer = self.prediction.GetModelMetadata(request, timeout=60)
        content = get_model_metadata_pb2.SignatureDefMap()
        assert answer.metadata["signature_def"].Unpack(content)
        return content.signature_def, answer.model_spec


@pytest.fixture(scope="session")
def connect():
    """Makes clients of a server, and closes them."""
    clients = []

    def connect(server):
        clients.append(Client(server.grpc_port, server.rest_port))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture(scope="module")
def start_server():
    """Starts servers in this process; they tell `server.reports` what they report."""
    servers = []

    def start(directory, poll_seconds=0.05):
        reports = []
        server = ModelServer(directory, "127.0.0.1", 0, 0, poll_seconds, reports.append)
        server.reports = reports
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


class Process:
    """`winnow serve` as a user starts it, listening on free ports."""

    def __init__(self, directory, *options):
        ports = ("--port", "0", "--rest-port", "0", "--json")
        command = [sys.executable, "-m", "pipelines.cli", "serve", "--models", str(directory)]
        self.popen = subprocess.Popen(
            [*command, *ports, *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        line = self.popen.stdout.readline()
        assert line, self.popen.communicate()[1]
        self.ready = json.loads(line)
        self.grpc_port, self.rest_port = self.ready["grpc_port"], self.ready["rest_port"]

    def stop(self, number):
        """Sends a signal; returns the exit code and stderr."""
        self.popen.send_signal(number)
        _, stderr = self.popen.communicate(timeout=60)
        return self.popen.returncode, stderr


@pytest.fixture(scope="session")
def start_process():
    """Starts `winnow serve`; kills what a test has left."""
    processes = []

    def start(directory, *options):
        processes.append(Process(directory, *options))
        return processes[-1]

    yield start
    for process in processes:
        process.popen.kill()
        process.popen.communicate()


@pytest.fixture(scope="session")
def pushed_server(pushed, start_process):
    """`winnow serve` on the pushed retrieval model."""
    return start_process(pushed.directory)

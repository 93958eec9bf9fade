"""Toy models, a server on them or on what is pushed, and clients with the stock stubs."""

from pipelines import tensorflow_setup  # noqa: F401, I001  (before TensorFlow)

import dataclasses
import http.client
import json
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import grpc
import pytest
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.model_server.server import ModelServer

ROOT = Path(__file__).parents[3]
INTEGERS = (tf.int8, tf.uint8, tf.int16, tf.int32, tf.uint32, tf.int64, tf.uint64)
TYPES = (tf.bool, *INTEGERS, tf.float32, tf.float64, tf.string)


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
    """`winnow serve` on the pushed packages."""
    return start_process(pushed.directory)

"""Both protocols of the server against small models: what is answered, and what is refused how."""

import base64
import math
import socket

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import classification_pb2, get_model_metadata_pb2

from serving.model_server import request_checks
from serving.model_server.server import ModelServer, PortError

PREDICT = "toy:predict"
ROW = {"word": "a", "numbers": [1, 2, 3], "weights": [0.5, 0.25]}


@pytest.fixture(scope="module")
def server(tmp_path_factory, push, start_server):
    directory = tmp_path_factory.mktemp("serving")
    push(directory, 3)
    push(directory, 2, "other")
    (directory / "notes").mkdir()
    return start_server(directory)


@pytest.fixture(scope="module")
def client(server, connect):
    return connect(server)


def refusal(client, *args, **kwargs):
    with pytest.raises(grpc.RpcError) as caught:
        client.predict(*args, **kwargs)
    return caught.value.code().name, caught.value.details()


# What TensorFlow Serving's documentation shows


def test_rows_of_one_unnamed_input_give_bare_predictions(client):
    status, answer, headers = client.rest(PREDICT, {"instances": [1.0, 2, 5.5]})
    assert (status, answer) == (200, {"predictions": [2.0, 4.0, 11.0]})
    assert headers["X-Model-Version"] == "3"
    assert client.rest(PREDICT, {"instances": [{"x": 1.0}]})[1] == {"predictions": [2.0]}


def test_columns_of_one_unnamed_input_give_a_bare_output(client):
    assert client.rest(PREDICT, {"inputs": [1.0, 2.0]})[:2] == (200, {"outputs": [2.0, 4.0]})
    assert client.rest(PREDICT, {"inputs": {"x": [1.0]}})[1] == {"outputs": [2.0]}


def test_rows_of_named_inputs_give_objects(client):
    other = {"word": "b", "numbers": [0, 0, 1], "weights": [0.0, 1]}
    body = {"signature_name": "version", "instances": [ROW, other]}
    expected = [
        {"word": "aa", "total": 6.75, "from_variable": 3, "from_graph": 3},
        {"word": "bb", "total": 2.0, "from_variable": 3, "from_graph": 3},
    ]
    assert client.rest(PREDICT, body)[:2] == (200, {"predictions": expected})


def test_columns_of_named_inputs_give_an_object(client):
    body = {"signature_name": "version", "inputs": {name: [value] for name, value in ROW.items()}}
    expected = {"word": ["aa"], "total": [6.75], "from_variable": [3], "from_graph": [3]}
    assert client.rest(PREDICT, body)[:2] == (200, {"outputs": expected})


def test_lists_without_values_have_a_shape(client):
    row = {**ROW, "weights": []}
    body = {"signature_name": "version", "instances": [row, row]}
    assert [x["total"] for x in client.rest(PREDICT, body)[1]["predictions"]] == [6.0, 6.0]


def test_what_is_no_row_is_asked_in_columns(client):
    body = {"signature_name": "scalar", "inputs": {"x": 2.0}}
    assert client.rest(PREDICT, body)[1] == {"outputs": {"y": 2.0, "z": [2.0, 2.0]}}


def test_bytes_are_base64_in_objects(client):
    blob = bytes(range(256))
    encoded = {"b64": base64.b64encode(blob).decode()}
    text = {"b64": base64.b64encode("é\0".encode()).decode()}
    body = {"signature_name": "blobs", "instances": ["é\0", text]}
    row = {"blob_bytes": text, "blob": "é\0"}
    assert client.rest(PREDICT, body)[1] == {"predictions": [row, row]}
    # No text: as base64 even where the output's name promises text.
    body = {"signature_name": "blobs", "inputs": [encoded]}
    assert client.rest(PREDICT, body)[1] == {"outputs": {"blob_bytes": [encoded], "blob": [encoded]}}


TYPED = {
    "bool": [True, False],
    "int8": [-128, 127],
    "uint8": [0, 255],
    "int16": [-(2**15), 2**15 - 1],
    "int32": [-(2**31), 2**31 - 1],
    "uint32": [0, 2**32 - 1],
    "int64": [-(2**63), 2**63 - 1],
    "uint64": [0, 2**64 - 1],
    "float32": [0.1, 16_777_215],
    "float64": [0.1, 1e300],
    "string": ["", "日本"],
}


def test_every_type_goes_through_json_unchanged(client):
    status, answer, _ = client.rest(PREDICT, {"signature_name": "echo", "inputs": TYPED})
    assert (status, answer["outputs"]) == (200, {f"{name}_out": value for name, value in TYPED.items()})


def test_every_type_goes_through_grpc_unchanged(client):
    inputs = {
        name: np.array(value, tf.as_dtype(name).as_numpy_dtype)
        if name != "string"
        else np.array([b"\xff\0", b""], object)
        for name, value in TYPED.items()
    }
    outputs, spec = client.predict(inputs, "echo")
    for name, value in inputs.items():
        np.testing.assert_array_equal(outputs[f"{name}_out"], value)
    assert (spec.name, spec.version.value, spec.signature_name) == ("toy", 3, "echo")


def test_floats_that_json_lacks_are_javascripts(client):
    status, answer, _ = client.rest(PREDICT, b'{"instances": [NaN, Infinity, -Infinity]}')
    assert status == 200 and math.isnan(answer["predictions"][0])
    assert answer["predictions"][1:] == [math.inf, -math.inf]


def test_grpc_values_lie_in_the_typed_field_and_may_come_in_any_form(client):
    short = TensorProto(dtype=1, float_val=[1, 3])
    short.tensor_shape.dim.add(size=4)
    content = tf.make_tensor_proto(np.array([1, 2], np.float32))
    assert content.tensor_content
    assert client.predict({"x": short})[0]["y"].tolist() == [2, 6, 6, 6]  # the last one is repeated
    assert client.predict({"x": content})[0]["y"].tolist() == [2, 4]


def test_an_output_filter_gives_those_outputs(client):
    inputs = {"word": [b"a"], "numbers": np.int64([[1, 2, 3]]), "weights": np.float32([[0]])}
    outputs, _ = client.predict(inputs, "version", output_filter=["total"])
    assert {name: x.tolist() for name, x in outputs.items()} == {"total": [6]}


def test_the_state_of_versions(client):
    assert client.statuses() == [(3, "AVAILABLE", 0, "")]
    status = {"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in ("toy", "toy/versions/3"):
        assert client.rest(path)[:2] == (200, {"model_version_status": [status]})


def test_the_metadata_name_every_signature(client):
    signatures, spec = client.signatures()
    assert (spec.name, spec.version.value) == ("toy", 3)
    assert signatures["version"].inputs["numbers"].dtype == tf.int64.as_datatype_enum
    status, answer, _ = client.rest("toy/versions/3/metadata")
    assert status == 200 and answer["model_spec"] == {"name": "toy", "signature_name": "", "version": "3"}
    found = answer["metadata"]["signature_def"]["signature_def"]["version"]["inputs"]["numbers"]
    assert found["dtype"] == "DT_INT64"
    sizes = [{"size": "-1", "name": ""}, {"size": "3", "name": ""}]
    assert found["tensor_shape"] == {"dim": sizes, "unknown_rank": False}


def test_every_model_of_the_directory_is_served(client):
    assert client.rest("other")[1]["model_version_status"][0]["version"] == "2"
    assert client.predict({"x": np.float32([1])}, model="other", version=2)[1].version.value == 2


# What is refused


REFUSED = [
    (b"", "not JSON"),
    (b"\xff\xfe", "not JSON"),
    (b'{"instances": [1', "not JSON"),
    (b'{"instances": [%s]}' % (b"9" * 5000), "not JSON"),
    (b"[" * 100_000, "nested too deeply"),
    (b"[1]", "expected a JSON object, got a list"),
    (b"{}", "either 'instances' or 'inputs'"),
    ({"instances": [1.0], "inputs": [1.0]}, "either 'instances' or 'inputs'"),
    ({"signature_name": 3, "instances": [1.0]}, "signature_name: expected a string, got 3"),
    ({"signature_name": "nope", "instances": [1.0]}, "unknown signature 'nope'; expected serving_default,"),
    ({"signature_name": "\ud800", "instances": [1.0]}, "unknown signature"),
    ({"instances": []}, "instances: expected a list of one instance or more, got []"),
    ({"instances": 1.0}, "instances: expected a list of one instance or more, got 1.0"),
    ({"instances": [1.0, {"x": 1.0}]}, "objects alone or values alone"),
    ({"instances": ["soon"]}, "input 'x': expected float32 [?], got 'soon'"),
    ({"instances": [None]}, "input 'x': expected float32 [?], got null"),
    ({"instances": [True]}, "input 'x': expected float32 [?], got True"),
    ({"instances": [[1.0], 2.0]}, "input 'x': expected float32 [?], got a list"),
    ({"instances": [[1.0], [1.0, 2.0]]}, "got lists of 1 to 2 values"),
    ({"instances": [[1.0]]}, "input 'x': expected float32 [?], got float32 [1, 1]"),
    ({"inputs": 1.0}, "input 'x': expected float32 [?], got float32 []"),
    ({"instances": [1e39]}, "input 'x': 1e+39 does not fit into float32"),
    ({"instances": [10**400]}, "does not fit into float32"),
    ({"instances": [16_777_217]}, "input 'x': 16777217 does not fit into float32"),
    ({"instances": [{"b64": "AA=="}]}, "input 'x': expected float32 [?], got an object"),
    ({"instances": [{"x": 1.0, "z": 1.0}]}, "instances for 'serving_default': unknown 'z'; expected x"),
    ({"instances": [{"x": 1.0}, {}]}, "missing 'x'; expected x"),
    ({"signature_name": "version", "inputs": {"word": ["a"]}}, "missing 'numbers', 'weights'; expected"),
    (
        {"signature_name": "version", "inputs": ["a"]},
        "that name the inputs of 'version': numbers, weights, word",
    ),
    (
        {"signature_name": "version", "instances": [{**ROW, "word": "\ud800"}]},
        "input 'word': '\\ud800' is no",
    ),
    ({"signature_name": "version", "instances": [{**ROW, "word": {"b64": "%"}}]}, "input 'word': expected {"),
    ({"signature_name": "version", "instances": [{**ROW, "word": {"a": "b"}}]}, "input 'word': expected {"),
    ({"signature_name": "version", "instances": [{**ROW, "numbers": [1, 2, 3.0]}]}, "int64 [?, 3], got 3.0"),
    ({"signature_name": "version", "instances": [{**ROW, "numbers": [1, 2]}]}, "[?, 3], got int64 [1, 2]"),
    ({"signature_name": "version", "instances": [{**ROW, "numbers": [1, 2, 2**63]}]}, "not fit into int64"),
    ({"signature_name": "echo", "inputs": {**TYPED, "int8": [1, 128]}}, "input 'int8': 128 does not fit"),
    (
        {"signature_name": "echo", "inputs": {**TYPED, "bool": [1, 0]}},
        "input 'bool': expected bool [?], got 1",
    ),
    (
        {"signature_name": "parse", "instances": ["garbage"]},
        "Could not parse example input, value: 'garbage'",
    ),
    (
        {"signature_name": "parse", "instances": [{"b64": "AAAA"}]},  # TensorFlow ends its message at a zero
        "signature 'parse': Could not parse example input, value: '...'; got examples string [1]",
    ),
    ({"signature_name": "parse", "instances": [""]}, "a (data type: int64) is required"),
    (
        {"signature_name": "scalar", "instances": [1.0, 2.0]},
        "input 'x': expected float32 [], got float32 [2]",
    ),
]


@pytest.mark.parametrize(("body", "message"), REFUSED)
def test_bad_json_is_refused_with_what_was_expected_and_what_came(client, body, message):
    status, answer, _ = client.rest(PREDICT, body)
    assert status == 400 and set(answer) == {"error"}
    assert message in answer["error"] and len(answer["error"]) <= 503


@pytest.mark.parametrize(
    ("path", "method", "status", "message"),
    [
        ("nope:predict", "POST", 404, "model 'nope' is not served; served: other version 2, toy version 3"),
        ("toy/versions/4:predict", "POST", 404, "model 'toy' version 4 is not served"),
        ("toy/versions/x:predict", "POST", 400, "version: expected a whole number, got 'x'"),
        ("toy/versions/" + "9" * 30, "GET", 400, "version: expected a whole number"),
        ("toy/versions/4", "GET", 404, "model 'toy' version 4 is not served"),
        ("toy/versions/4/metadata", "GET", 404, "model 'toy' version 4 is not served"),
        ("notes", "GET", 404, "model 'notes' is not served"),
        ("toy:classify", "POST", 501, "method 'classify'; expected 'predict'"),
        ("toy:predict", "GET", 405, "GET '/v1/models/toy:predict'; expected POST"),
        ("toy/versions/3:predict", "GET", 405, "expected POST"),
        ("toy:predict", "PUT", 405, "expected POST"),
        ("toy", "DELETE", 405, "Method Not Allowed: DELETE '/v1/models/toy'; expected GET, HEAD"),
        ("toy/", "GET", 404, "Not Found: GET '/v1/models/toy/'"),
        ("toy/labels/x", "GET", 404, "Not Found: GET '/v1/models/toy/labels/x'"),
    ],
)
def test_what_is_not_there_is_said(client, path, method, status, message):
    found, answer, headers = client.rest(path, b'{"instances": [1.0]}' if method == "POST" else None, method)
    assert found == status and message in answer["error"]
    assert status != 405 or answer["error"].endswith(f"; expected {headers['Allow']}")


def test_a_body_too_large_is_refused_while_it_is_read(client, monkeypatch):
    monkeypatch.setattr("serving.model_server.rest_api.MAX_REQUEST_BYTES", 1000)
    status, answer, _ = client.rest(PREDICT, b" " * 1001)
    assert status == 413 and "more than 1,000 bytes" in answer["error"]
    client.http.close()


def proto(dtype=tf.float32, shape=(1,), **values):
    made = TensorProto(dtype=dtype.as_datatype_enum, **values)
    for size in shape:
        made.tensor_shape.dim.add(size=size)
    return made


UNKNOWN_RANK = TensorProto(dtype=1, float_val=[1])
UNKNOWN_RANK.tensor_shape.unknown_rank = True
NUMBERS = {"word": [b"a"], "weights": np.float32([[1]])}


@pytest.mark.parametrize(
    ("inputs", "signature", "code", "message"),
    [
        (
            {"x": proto(tf.float64, double_val=[1])},
            "",
            "INVALID_ARGUMENT",
            "'x': expected float32, got DT_DOUB",
        ),
        ({"x": proto(tf.resource)}, "", "INVALID_ARGUMENT", "'x': expected float32, got DT_RESOURCE"),
        ({"x": TensorProto(dtype=77)}, "", "INVALID_ARGUMENT", "got the unknown type 77"),
        ({"x": UNKNOWN_RANK}, "", "INVALID_ARGUMENT", "'x': a tensor of unknown rank"),
        ({"x": proto(shape=(-1,))}, "", "INVALID_ARGUMENT", "'x': negative dimension in float32 [-1]"),
        ({"x": proto(shape=(-(2**63), 2))}, "", "INVALID_ARGUMENT", "'x': negative dimension"),
        ({"x": proto(shape=())}, "", "INVALID_ARGUMENT", "'x': expected float32 [?], got float32 []"),
        (
            {"x": proto(shape=(2**62,), float_val=[1])},
            "",
            "INVALID_ARGUMENT",
            "has more than 67,108,864 bytes",
        ),
        ({"x": proto(shape=(2**63 - 1,))}, "", "INVALID_ARGUMENT", "has more than 67,108,864 bytes"),
        (
            {"x": proto(shape=(2,), float_val=[1, 2, 3])},
            "",
            "INVALID_ARGUMENT",
            "expected 2 values for the shape",
        ),
        ({"x": proto(shape=(2,), tensor_content=b"1234567")}, "", "INVALID_ARGUMENT", "expected 8 bytes"),
        ({"x": np.float32([1]), "z": np.float32([1])}, "", "INVALID_ARGUMENT", "unknown 'z'; expected x"),
        ({}, "", "INVALID_ARGUMENT", "missing 'x'; expected x"),
        ({"x": np.float32([1])}, "nope", "INVALID_ARGUMENT", "unknown signature 'nope'"),
        (
            {"numbers": np.int64([[1, 2]]), **NUMBERS},
            "version",
            "INVALID_ARGUMENT",
            "[?, 3], got int64 [1, 2]",
        ),
        (
            {"examples": proto(tf.string, tensor_content=b"\1a")},
            "parse",
            "INVALID_ARGUMENT",
            "expected strings in string_val",
        ),
        ({"examples": [b"\xff"]}, "parse", "INVALID_ARGUMENT", "Could not parse example"),
        (
            {"c": np.complex64([1])},
            "complex",
            "UNIMPLEMENTED",
            "input 'c': tensors of complex64 are not served",
        ),
    ],
)
def test_bad_tensors_are_refused_with_what_was_expected_and_what_came(
    client, inputs, signature, code, message
):
    found, details = refusal(client, inputs, signature)
    assert found == code and message in details


def test_bad_model_specs_are_refused(client):
    x = {"x": np.float32([1])}
    assert refusal(client, x, model="nope") == (
        "NOT_FOUND",
        "model 'nope' is not served; served: other version 2, toy version 3",
    )
    assert refusal(client, x, version=4)[0] == "NOT_FOUND"
    assert refusal(client, x, version=-1)[0] == "NOT_FOUND"
    assert refusal(client, x, model="")[0] == "INVALID_ARGUMENT"
    assert refusal(client, x, output_filter=["y", "q"]) == (
        "INVALID_ARGUMENT",
        "unknown output 'q'; expected some of y",
    )
    with pytest.raises(grpc.RpcError) as caught:
        client.prediction.GetModelMetadata(get_model_metadata_pb2.GetModelMetadataRequest())
    assert caught.value.code().name == "INVALID_ARGUMENT" and "metadata_field" in caught.value.details()
    with pytest.raises(grpc.RpcError) as caught:
        client.prediction.Classify(classification_pb2.ClassificationRequest())
    assert caught.value.code().name == "UNIMPLEMENTED"


@pytest.mark.filterwarnings("ignore:Unexpected end-group tag")  # what protobuf does instead of failing
def test_what_is_no_message_is_an_invalid_argument(client):
    call = client.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    # Garbage, a model's name that is not UTF-8, the end of a group that never began.
    for body in (b"\xff\xff\xff", b"\x0a\x03\x0a\x01\xff", b"\x0a\x05\x0a\x03toy\x0c\0"):
        with pytest.raises(grpc.RpcError) as caught:
            call(body)
        assert caught.value.code().name == "INVALID_ARGUMENT"
        assert "no tensorflow.serving.PredictRequest" in caught.value.details()


def test_a_message_too_large_is_refused_before_it_is_read(client):
    x = np.zeros(request_checks.MAX_REQUEST_BYTES // 4 + 1, np.float32)
    code, details = refusal(client, {"x": x})
    assert code == "RESOURCE_EXHAUSTED" and "larger than max" in details


@pytest.mark.parametrize("which", ["grpc_port", "rest_port"])
def test_a_port_in_use_is_said(server, tmp_path, which):
    ports = {"grpc_port": 0, "rest_port": 0, which: getattr(server, which)}
    with pytest.raises(PortError, match=f"port {ports[which]} of 127.0.0.1 cannot be listened on"):
        ModelServer(tmp_path, "127.0.0.1", poll_seconds=1.0, report=print, **ports)


def test_a_client_that_goes_away_is_no_failure(server, client):
    with socket.create_connection(("127.0.0.1", server.rest_port)) as connection:
        connection.sendall(b"POST /v1/models/toy:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
    assert client.rest(PREDICT, {"instances": [1.0]})[0] == 200

"""Whatever is sent, by either protocol: an answer or a refusal, never a failure of the server."""

import json
import urllib.parse

import grpc
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import types_pb2
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from serving.model_server.proto_tensors import FIELDS

pytestmark = pytest.mark.filterwarnings("ignore:Unexpected end-group tag")  # of protobuf, no failure

REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
}
HTTP_STATUSES = {200, 400, 404, 405, 501}
SERVICE = "/tensorflow.serving.PredictionService/"
MANY = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

numbers = st.one_of(
    st.integers(-3, 3), st.integers(), st.sampled_from([2**31, 2**63 - 1, -(2**63), 2**63, 10**400])
)
words = st.one_of(st.text(max_size=5), st.sampled_from(["", "i000001", "u000001", "\0", "\ud800", "é"]))
blobs = st.one_of(st.binary(max_size=8), st.sampled_from([b"\xff", b"\n\0", b"\x0a\x02\x0a\x00", b"i000001"]))
base64s = st.builds(lambda text: {"b64": text}, st.one_of(words, st.sampled_from(["AA==", "/w=="])))
leaves = st.one_of(st.none(), st.booleans(), numbers, st.floats(), words, base64s)
junk = st.recursive(
    leaves, lambda x: st.lists(x, max_size=3) | st.dictionaries(words, x, max_size=3), max_leaves=6
)


@pytest.fixture(scope="module")
def toy_server(tmp_path_factory, push, start_server):
    directory = tmp_path_factory.mktemp("serving")
    push(directory, 1)
    return start_server(directory), "toy"


@pytest.fixture(
    scope="module",
    params=[
        "toy",
        *(pytest.param(x, marks=pytest.mark.slow) for x in ("retrieval_brute_force", "retrieval_scann")),
    ],
)
def target(request, connect):
    """A client, the name of a model, and its signatures."""
    if request.param == "toy":
        server, _ = request.getfixturevalue("toy_server")
    else:
        server = request.getfixturevalue("pushed_server")
    client = connect(server)
    signatures = dict(client.signatures(request.param)[0])
    signatures.pop("spin", None)  # runs for as long as it is told to
    yield client, request.param, signatures
    assert client.statuses(request.param)[0][1] == "AVAILABLE"


def nested(leaf, shape, draw):
    """Lists of lists."""
    if not shape:
        return draw(leaf)
    return [nested(leaf, shape[1:], draw) for _ in range(shape[0])]


def json_value(info, shape, draw, *, is_odd):
    """A value that an input may well take, or anything."""
    dtype = tf.as_dtype(info.dtype)
    likely = {tf.string: words | base64s, tf.bool: st.booleans()}.get(
        dtype, st.integers(-200, 2**33) if dtype.is_integer else st.floats(width=32)
    )
    if not is_odd:
        return nested(likely, shape, draw)
    if draw(st.booleans()):
        return draw(junk)
    shapes = st.lists(st.integers(0, 3), max_size=3)
    return [nested(likely, draw(shapes), draw) for _ in range(draw(st.integers(0, 3)))]


def choose_signature(signatures, draw):
    """Its name, its inputs but for one now and then, the odd one of them, and every axis' size."""
    name = draw(st.sampled_from(sorted(signatures)))
    infos = dict(signatures[name].inputs)
    for dropped in draw(st.lists(st.sampled_from([*infos, None]), max_size=1)) if infos else ():
        infos.pop(dropped, None)
    return name, infos, draw(st.sampled_from([None, *infos])), draw(st.tuples(*[st.integers(0, 3)] * 3))


def post(client, model, body, path=":predict"):
    status, answer, _ = client.rest(f"{model}{path}", body)
    assert status in HTTP_STATUSES, answer
    assert set(answer) in ({"predictions"}, {"outputs"}) if status == 200 else set(answer) == {"error"}


@MANY
@given(data=st.data())
def test_json_that_is_nearly_right(target, data):
    client, model, signatures = target
    name, infos, odd, sizes = choose_signature(signatures, data.draw)
    body = {"signature_name": name}

    def columns(first):
        return {
            key: json_value(info, sizes[first : len(info.tensor_shape.dim)], data.draw, is_odd=key == odd)
            for key, info in infos.items()
        }

    if data.draw(st.booleans()):
        body["instances"] = [columns(1) for _ in range(sizes[0])]
    else:
        body["inputs"] = columns(0)
    post(client, model, json.dumps(body).encode())


@MANY
@given(
    body=st.one_of(
        junk,
        st.fixed_dictionaries(
            {}, optional={"signature_name": junk | words, "instances": junk | st.lists(junk), "inputs": junk}
        ),
    )
)
def test_json_of_any_kind(target, body):
    client, model, _ = target
    post(client, model, json.dumps(body).encode())


@MANY
@given(body=st.binary(max_size=40), path=st.text(max_size=12))
def test_bodies_and_paths_of_any_kind(target, body, path):
    client, model, _ = target
    post(client, model, body)
    quoted = urllib.parse.quote(path, safe="/:", errors="replace")
    status, _, _ = client.rest(f"{model}/{quoted}", body, "POST")
    assert status in HTTP_STATUSES
    status, _, _ = client.rest(f"{model}/{quoted}")
    assert status in HTTP_STATUSES


def tensor(info, sizes, draw, *, is_odd):
    """A tensor that an input may well take, or one that contradicts itself."""
    dtype = tf.as_dtype(info.dtype)
    proto = TensorProto(dtype=info.dtype)
    shape = [
        wanted.size if wanted.size >= 0 else size
        for wanted, size in zip(info.tensor_shape.dim, sizes, strict=False)
    ]
    field = FIELDS.get(dtype, "float_val")
    faults = ["dtype", "shape", "rank", "count", "content", "field"] if is_odd else ["none"]
    fault = draw(st.sampled_from(faults))
    if fault == "dtype":
        proto.dtype = draw(st.sampled_from(types_pb2.DataType.values()) | st.integers(0, 200))
    elif fault == "shape":
        sizes = st.sampled_from([-1, 0, 1, 2, 2**31, 2**62, 2**63 - 1, -(2**63)])
        shape = draw(st.lists(sizes, max_size=4))
    elif fault == "rank":
        proto.tensor_shape.unknown_rank = True
    elif fault == "content":
        proto.tensor_content = draw(st.binary(max_size=40))
    elif fault == "field":
        field = draw(st.sampled_from(sorted(set(FIELDS.values()))))
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    likely = {
        "string_val": blobs,
        "bool_val": st.booleans(),
        "float_val": st.floats(width=32),
        "double_val": st.floats(),
        "int64_val": st.integers(-(2**63), 2**63 - 1),
        "uint32_val": st.integers(0, 2**32 - 1),
        "uint64_val": st.integers(0, 2**64 - 1),
        "int_val": st.integers(-(2**31), 2**31 - 1),
    }[field]
    count = 1
    for size in shape:
        count *= min(abs(size), 3)
    if fault == "count":
        count += draw(st.integers(-2, 2))
    if fault != "content":
        getattr(proto, field).extend(draw(likely) for _ in range(max(count, 0)))
    return proto


def call(stub, request):
    try:
        return stub(request, timeout=60)
    except grpc.RpcError as error:
        assert error.code() in REFUSALS, (error.code(), error.details())


@MANY
@given(data=st.data())
def test_tensors_that_are_nearly_right(target, data):
    client, model, signatures = target
    name, infos, odd, sizes = choose_signature(signatures, data.draw)
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, name
    for key, info in infos.items():
        request.inputs[key].CopyFrom(tensor(info, sizes, data.draw, is_odd=key == odd))
    call(client.prediction.Predict, request)
    # The same with a few bytes changed, as it travels.
    body = bytearray(request.SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    call(client.channel.unary_unary(f"{SERVICE}Predict"), bytes(body))


@MANY
@given(body=st.binary(max_size=60), method=st.sampled_from(["Predict", "GetModelMetadata", "Classify", "X"]))
def test_messages_of_any_kind(target, body, method):
    client, _, _ = target
    call(client.channel.unary_unary(SERVICE + method), body)
    call(client.channel.unary_unary("/tensorflow.serving.ModelService/GetModelStatus"), body)


@MANY
@given(
    name=st.text(max_size=5).filter(lambda x: not any("\ud800" <= c <= "\udfff" for c in x)),
    version=st.none() | st.integers(-(2**63), 2**63 - 1),
    label=st.sampled_from(["", "stable"]),
    fields=st.lists(st.sampled_from(["signature_def", "é", ""]), max_size=2),
)
def test_specs_of_any_kind(target, name, version, label, fields):
    client, model, _ = target
    for asked in (name, model):
        spec = {"name": asked, "signature_name": name}
        if version is not None:
            spec["version"] = {"value": version}
        elif label:
            spec["version_label"] = label
        metadata = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=fields)
        call(client.prediction.GetModelMetadata, metadata)
        call(client.model.GetModelStatus, get_model_status_pb2.GetModelStatusRequest(model_spec=spec))
        call(client.prediction.Predict, predict_pb2.PredictRequest(model_spec=spec))

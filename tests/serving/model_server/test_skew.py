"""The served answers against those of the pushed SavedModel to tf.Examples: no skew, in either flavour.

Raw features go through JSON or tensors to the signature `recommend`; the reference is `recommend_examples`
on the test split's own tf.Examples, in another process than the server's.
"""

import collections
import re
import subprocess
import sys

import grpc
import numpy as np
import pytest
import tensorflow as tf
from scann.scann_ops.py import scann_ops  # noqa: F401  (registers the op of the scann flavour)

from components.flavours import live_folders
from schemas import features as f

pytestmark = pytest.mark.slow

FLAVOURS = ("brute_force", "scann")
TOLERANCE = 1e-5  # of max(1, |score|)
EXCLUDE = "exclude_item_id"
BRANDS = "history_brand"


@pytest.fixture(scope="module")
def client(pushed_server, connect):
    return connect(pushed_server)


@pytest.fixture(scope="module", params=FLAVOURS)
def flavour(request, pushed):
    """A flavour's name as a model, and its signatures offline."""
    return f"retrieval_{request.param}", pushed.load(request.param)


@pytest.fixture(scope="module")
def specs(client):
    """The inputs of `recommend` but the exclusions, as the server tells them."""
    inputs = dict(client.signatures("retrieval_brute_force")[0]["recommend"].inputs)
    del inputs[EXCLUDE]
    return inputs


def make_example(values):
    """A tf.Example of bytes and integers."""
    example = tf.train.Example()
    for name, value in values.items():
        kind = "bytes_list" if isinstance(value[0], bytes) else "int64_list"
        getattr(example.features.feature[name], kind).value.extend(value)
    return example.SerializeToString()


@pytest.fixture(scope="module")
def queries(pushed, specs):
    """The query features of the test examples, and of requests that the split may lack, one by one."""
    found = [
        {name: values for name, values in x.items() if name in specs} for x in map(read, pushed.test_examples)
    ]
    whole = max(found, key=lambda query: (len(query), len(query.get(f.HISTORY_ITEM_ID, ()))))
    history = {name: values for name, values in whole.items() if name.startswith(f.HISTORY_PREFIX)}
    required = {name: whole[name] for name, info in specs.items() if len(info.tensor_shape.dim) == 1}
    assert len(history[f.HISTORY_ITEM_ID]) > 3 and set(required) == {f.USER_ID, f.TIMESTAMP}
    unknown = [b"no such item", *history[f.HISTORY_ITEM_ID][1:]]
    made = [
        {**whole, f.USER_ID: [b"no such user"]},
        {**whole, f.HISTORY_ITEM_ID: unknown},
        {name: values for name, values in whole.items() if name not in history},
        required,
        {**required, f.USER_ID: [b"no such user"]},
        {**required, **history},
        {**whole, BRANDS: [b"", *history[BRANDS][1:]]},
        {**whole, BRANDS: [*history[BRANDS][:-2], b"", b""]},
        {**whole, BRANDS: [b""] * len(history[BRANDS])},
        *({k: v for k, v in whole.items() if k != name} for name in whole.keys() - required - history.keys()),
    ]
    assert len(made) > 8
    return found, made


def read(example):
    """The values of a tf.Example by feature; absent ones are left out."""
    values = {}
    for name, feature in tf.train.Example.FromString(example).features.feature.items():
        kind = feature.WhichOneof("kind")
        if kind and len(getattr(feature, kind).value):
            values[name] = list(getattr(feature, kind).value)
    return values


def to_arrays(batch, specs):
    """Raw features as `recommend` takes them: [B], or [B, n] filled up with what stands for nothing."""
    arrays = {EXCLUDE: np.full((len(batch), 1), b"", object)}
    for name, info in specs.items():
        dtype = tf.as_dtype(info.dtype)
        rows = [query.get(name, []) for query in batch]
        if len(info.tensor_shape.dim) == 1:
            arrays[name] = np.array([row[0] for row in rows], dtype.as_numpy_dtype)
            continue
        filler = b"" if dtype == tf.string else dtype.min
        arrays[name] = np.full((len(batch), max(map(len, rows))), filler, dtype.as_numpy_dtype)
        for row, values in zip(arrays[name], rows, strict=True):
            row[: len(values)] = values
    return arrays


def to_json(array):
    return (
        np.vectorize(bytes.decode, [object])(array).tolist()
        if array.dtype == object and array.size
        else array.tolist()
    )


def ask_grpc(client, model, arrays, signature="recommend"):
    outputs, _ = client.predict(
        {
            name: tf.make_tensor_proto(x, tf.string if x.dtype == object else None, x.shape)
            for name, x in arrays.items()
        },
        signature,
        model,
    )
    return outputs["item_id"].astype(str), outputs["scores"]


def ask_rows(client, model, arrays, signature="recommend"):
    columns = {name: to_json(array) for name, array in arrays.items()}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    status, answer, _ = client.rest(f"{model}:predict", {"signature_name": signature, "instances": rows})
    assert status == 200, answer
    rows = answer["predictions"]
    return np.array([x["item_id"] for x in rows]), np.array([x["scores"] for x in rows], np.float32)


def ask_columns(client, model, arrays, signature="recommend"):
    columns = {name: to_json(array) for name, array in arrays.items()}
    status, answer, _ = client.rest(f"{model}:predict", {"signature_name": signature, "inputs": columns})
    assert status == 200, answer
    return np.array(answer["outputs"]["item_id"]), np.array(answer["outputs"]["scores"], np.float32)


WAYS = (ask_grpc, ask_rows, ask_columns)


def assert_equal(served, offline):
    """Equal scores at every place; an item may change its place among scores that are equal so."""
    for (ids, scores), (expected_ids, expected) in zip(
        zip(*served, strict=True), zip(*offline, strict=True), strict=True
    ):
        allowed = TOLERANCE * np.maximum(1, np.abs(expected))
        assert (np.abs(scores - expected) <= allowed).all()
        there, offline_score = (
            dict(zip(ids, scores, strict=True)),
            dict(zip(expected_ids, expected, strict=True)),
        )
        for item in there.keys() | offline_score.keys():
            # An item of one answer alone has the score of the other's last place.
            difference = there.get(item, scores[-1]) - offline_score.get(item, expected[-1])
            assert abs(difference) <= TOLERANCE * max(1, abs(offline_score.get(item, expected[-1]))), item
        # The empty places are the same ones.
        assert ((ids == "") == (expected_ids == "")).all()


def offline(signatures, examples, exclude=None):
    exclude = np.full((len(examples), 1), b"", object) if exclude is None else exclude
    answer = signatures["recommend_examples"](
        examples=tf.constant(examples), exclude_item_id=tf.constant(exclude, tf.string)
    )
    return answer["item_id"].numpy().astype(str), answer["scores"].numpy()


def test_the_answers_to_every_test_example_are_the_offline_ones(client, flavour, pushed, queries, specs):
    model, signatures = flavour
    found, _ = queries
    assert len(found) > 300
    for start in range(0, len(found), 64):
        part = slice(start, start + 64)
        expected = offline(signatures, pushed.test_examples[part])
        for ask in WAYS:
            assert_equal(ask(client, model, to_arrays(found[part], specs)), expected)


def test_some_of_these_histories_have_clicks_on_items_without_a_brand(queries):
    """Else the tests around could not tell whether the histories' lists stay aligned."""
    brands = [query[BRANDS] for query in queries[0] if BRANDS in query]
    assert sum(b"" in x[:-1] and x[-1] != b"" for x in brands) > 10
    assert sum(x[-1] == b"" and set(x) != {b""} for x in brands) > 10
    assert sum(set(x) == {b""} for x in brands) > 3


def test_one_by_one_the_answers_are_the_same(client, flavour, pushed, queries, specs):
    model, signatures = flavour
    found, _ = queries
    # The examples of one request differ in their items alone, which are no query.
    one_of_each = {(tuple(x[f.USER_ID]), tuple(x[f.TIMESTAMP])): i for i, x in enumerate(found)}.values()
    rows = list(one_of_each)
    assert len(rows) > 60
    ids, scores = offline(signatures, [pushed.test_examples[row] for row in rows])
    for place, row in enumerate(rows):
        for ask in WAYS:
            served = ask(client, model, to_arrays([found[row]], specs))
            assert_equal(served, (ids[[place]], scores[[place]]))


@pytest.mark.parametrize("together", [True, False])
def test_so_are_those_to_strangers_new_items_and_missing_features(client, flavour, queries, specs, together):
    model, signatures = flavour
    _, made = queries
    expected = offline(signatures, [make_example(query) for query in made])
    assert (np.abs(np.diff(expected[1], axis=0)).max(axis=1) > 1e-4).sum() > 3, "the queries are all alike"
    for rows in [list(range(len(made)))] if together else [[i] for i in range(len(made))]:
        for ask in WAYS:
            served = ask(client, model, to_arrays([made[i] for i in rows], specs))
            assert_equal(served, tuple(part[rows] for part in expected))


def test_so_are_those_without_what_is_excluded(client, flavour, pushed, queries, specs):
    model, signatures = flavour
    found = queries[0][:16]
    best = offline(signatures, pushed.test_examples[:16])[0]
    exclude = np.array([[*row[:7], "no such item", ""] for row in best], object)
    encoded = np.vectorize(str.encode, [object])(exclude)
    expected = offline(signatures, pushed.test_examples[:16], encoded)
    assert not set(expected[0][0]) & set(best[0][:7])
    for ask in WAYS:
        assert_equal(ask(client, model, {**to_arrays(found, specs), EXCLUDE: encoded}), expected)


def test_a_history_that_contradicts_itself_is_refused_and_one_without_a_list_is_not(
    client, flavour, queries, specs
):
    model, signatures = flavour
    whole = queries[1][0]
    query = {name: x[-2:] if name.startswith(f.HISTORY_PREFIX) else x for name, x in whole.items()}
    arrays = to_arrays([{**query, f.HISTORY_ITEM_ID: query[f.HISTORY_ITEM_ID][:1]}], specs)
    names = ", ".join(sorted(name for name in specs if name.startswith(f.HISTORY_PREFIX)))
    expected = f"signature 'recommend': assertion failed: [{names}: expected lists of one length"
    with pytest.raises(grpc.RpcError, match=re.escape(expected)) as caught:
        ask_grpc(client, model, arrays)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    columns = {name: to_json(array) for name, array in arrays.items()}
    status, answer, _ = client.rest(f"{model}:predict", {"signature_name": "recommend", "inputs": columns})
    assert status == 400 and expected in answer["error"]

    del query[BRANDS]
    for ask in WAYS:
        served = ask(client, model, to_arrays([query], specs))
        assert_equal(served, offline(signatures, [make_example(query)]))


def test_so_is_what_is_similar_to_every_item_and_to_an_unknown_one(client, flavour, pushed):
    model, signatures = flavour
    items = np.array([*pushed.item_ids, b"no such item"], object)
    arrays = {f.ITEM_ID: items, EXCLUDE: np.full((len(items), 1), b"", object)}
    answer = signatures["similar"](**{name: tf.constant(x, tf.string) for name, x in arrays.items()})
    expected = answer["item_id"].numpy().astype(str), answer["scores"].numpy()
    assert set(expected[0][-1]) == {""}
    for ask in WAYS:
        assert_equal(ask(client, model, arrays, "similar"), expected)


# Run where ScaNN is not imported, which would register its op.
REGISTERED = """
import json, sys
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry
import tensorflow
content = saved_model_pb2.SavedModel.FromString(open(sys.argv[1], "rb").read())
assert "scann" not in sys.modules
graphs = [graph.graph_def for graph in content.meta_graphs]
functions = {x.signature.name for graph in graphs for x in graph.library.function}
nodes = [node for graph in graphs for node in graph.node]
nodes += [node for graph in graphs for x in graph.library.function for node in x.node_def]
ops = {node.op for node in nodes} - functions
print(len(ops), json.dumps(sorted(op for op in ops if op_def_registry.get(op) is None)))
"""


def test_the_exact_flavour_needs_no_op_but_tensorflows(pushed):
    unregistered = collections.defaultdict(list)
    for name, folder in live_folders(pushed.directory, pushed.version).items():
        command = [sys.executable, "-c", REGISTERED, f"{folder}/saved_model.pb"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        count, unregistered[name] = done.stdout.strip().split(" ", 1)
        assert int(count) > 50
    assert unregistered["brute_force"] == "[]"
    assert "Scann" in unregistered["scann"], "else the line above could not fail"

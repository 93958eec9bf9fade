"""Both towers against a plain NumPy reference: eager, in a graph, and reloaded from a SavedModel."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from schemas import features as f
from trainers.batches import to_dense
from trainers.layers.feature_embedding import PADDING
from trainers.retrieval import export
from trainers.retrieval.config import ItemToItemConfig, RetrievalConfig
from trainers.retrieval.item_to_item import anchor_features
from trainers.retrieval.model import RetrievalModel

CONFIG = RetrievalConfig(embedding_dim=12, hidden_dims=(10, 7), output_dim=6, num_history_heads=3)
ITEM_CONFIG = ItemToItemConfig(embedding_dim=12, hidden_dims=(10, 7), output_dim=6)
MONDAY_MS = 1_704_067_200_000
EDGE_CASES = {
    "known": {
        "user_id": "u1",
        "history_item_id": ["i1", "i2", "i3"],
        "history_category": ["c0", "c1", "c2"],
        "history_timestamp": [MONDAY_MS - 9000, MONDAY_MS - 500, MONDAY_MS],
        "gender": "gender1",
        "occupation": "occupation2",
    },
    "empty history": {"user_id": "u2"},
    "unknown user": {"user_id": "nobody", "city": "nowhere"},
    "unknown item": {"item_id": "nothing", "title": "what is this", "category": "nothing", "brand": "none"},
    "unknown history": {
        "history_item_id": ["x", "i1"],
        "history_category": ["x", "c1"],
        "history_timestamp": [MONDAY_MS - 10**9, MONDAY_MS - 1],
    },
    "known item": {
        "item_id": "i3",
        "title": "word1 word2",
        "category": "c1",
        "brand": "brand1",
        "price": 7.0,
    },
}
ANCHORS = {
    "known": EDGE_CASES["known item"],
    "unknown": EDGE_CASES["unknown item"],
    "no side features": {"item_id": "i2"},
    "unknown side features": {"item_id": "i3", "category": "nothing", "brand": "none", "shop_id": "none"},
}


def assert_equal(actual, expected):
    """Within 1e-5 · max(1, |x|)."""
    assert actual.shape == expected.shape
    difference = np.abs(np.asarray(actual, np.float64) - expected)
    assert np.all(difference <= 1e-5 * np.maximum(1.0, np.abs(expected))), difference.max()


class Reference:
    """The towers in NumPy, from nothing but the weights by name."""

    def __init__(self, model):
        self.weights = {v.name.removesuffix(":0"): v.numpy().astype(np.float64) for v in model.variables}
        self.config = model.config

    def weight(self, suffix):
        (name,) = (n for n in self.weights if n.endswith(suffix))
        return self.weights[name]

    def features(self, features, inputs):
        parts = []
        for x in features:
            values = inputs[x.name]
            if x.size == 0:
                parts.append([[float(v)] for v in values])
            elif x.is_list:
                table = self.weight(f"/{x.table}")
                rows = [[table[i] for i in row if i != PADDING] for row in values]
                parts.append([np.mean(r, axis=0) if r else np.zeros(table.shape[1]) for r in rows])
            else:
                parts.append([self.weight(f"/{x.table}")[i] for i in values])
        return np.concatenate([np.array(p) for p in parts], axis=1)

    def pooled(self, features, inputs):
        kernel, bias = self.weight("hidden/kernel"), self.weight("hidden/bias")
        scores, position = self.weight("score/kernel"), self.weight("position_bias")
        result = []
        for row in range(len(inputs[features[0].name])):
            length = int(np.sum(inputs[features[0].name][row] != PADDING))
            events, shared = [], []
            for t in range(length):
                vectors = {
                    x.name: self.weight(f"/{x.table}")[max(inputs[x.name][row][t], 0)] for x in features
                }
                events.append(np.concatenate(list(vectors.values())))
                shared.append(np.concatenate([vectors[x.name] for x in features if x.table != x.name]))
            width = sum(self.weight(f"/{x.table}").shape[1] for x in features if x.table != x.name)
            heads = []
            for head in range(self.config.num_history_heads):
                logits = [
                    np.tanh(e @ kernel + bias) @ scores[:, head] + position[length - 1 - t, head]
                    for t, e in enumerate(events)
                ]
                weights = np.exp(logits) / np.sum(np.exp(logits))
                heads.append(weights @ np.array(shared) if length else np.zeros(width))
            result.append(np.concatenate(heads))
        return np.array(result)

    def top(self, x, name):
        hidden = x
        for i in range(len(self.config.hidden_dims)):
            kernel, bias = (self.weight(f"{name}/hidden_{i}/{part}") for part in ("kernel", "bias"))
            hidden = np.maximum(hidden @ kernel + bias, 0.0)
        kernel, bias = (self.weight(f"{name}/output/{part}") for part in ("kernel", "bias"))
        vectors = x @ self.weight(f"{name}/linear/kernel") + hidden @ kernel + bias
        if self.config.normalize:
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def query(self, features, inputs):
        history, others = ([x for x in features if x.is_list is is_list] for is_list in (True, False))
        parts = [self.features(others, inputs)] if others else []
        if history:
            parts.append(self.pooled(history, inputs))
        return self.top(np.concatenate(parts, axis=1), "query_top")

    def candidate(self, features, inputs):
        return self.top(self.features(features, inputs), "candidate_top")


def _inputs(prepared, features, rows):
    encoded = prepared.encode(rows)
    return {x.name: to_dense(encoded[x.name], x).numpy() for x in features}


def _constant(inputs):
    return {name: tf.constant(values) for name, values in inputs.items()}


def _make_model(marketplace, features, config):
    tf.keras.utils.set_random_seed(3)
    size = next(x.size for x in features if x.name == "item_id_index")
    rows = [{"item_id": f"i{i}", "title": "word1", "history_item_id": ["i1"]} for i in range(size - 1)]
    rows = [{**row, "history_category": ["c1"], "history_timestamp": [MONDAY_MS]} for row in rows]
    inputs = _inputs(marketplace, marketplace.features, rows)
    catalogue = {x.name: inputs[x.name] for x in features if x.role is f.Role.CANDIDATE}
    inputs.update(_anchor_inputs(marketplace, features, rows))
    model = RetrievalModel(features, catalogue, np.full(size, 1 / size), config)
    model.compute_loss(_constant(inputs))  # creates the variables
    for variable in model.trainable_variables:  # far from where they start: zeros hide mistakes
        variable.assign(tf.random.normal(variable.shape, stddev=0.4))
    return model


def _anchor_inputs(prepared, features, rows):
    """An anchor's features are the item's own, under other names."""
    names = [x.name for x in features if x.name.startswith("anchor_")]
    encoded = prepared.encode(rows)
    return {name: encoded[name.removeprefix("anchor_")].numpy() for name in names}


@pytest.fixture(scope="module")
def model(marketplace):
    return _make_model(marketplace, marketplace.features, CONFIG)


@pytest.fixture(scope="module")
def item_model(marketplace):
    return _make_model(marketplace, anchor_features(marketplace.features), ITEM_CONFIG)


@pytest.fixture(scope="module")
def reloaded(model, marketplace, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("towers") / "1")
    export.export_towers(model, marketplace.transform, path, {"training_key": "k", "warm_start_dir": ""})
    return tf.saved_model.load(path)


@pytest.fixture(scope="module")
def reloaded_items(item_model, marketplace, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("item_towers") / "1")
    export.export_item_towers(item_model, marketplace.transform, path)
    return tf.saved_model.load(path)


@pytest.mark.parametrize("case", EDGE_CASES)
def test_query_tower_is_the_reference(model, marketplace, reloaded, case):
    """A batch of one, and the same row in a batch of all."""
    for rows in ([EDGE_CASES[case]], [EDGE_CASES[case], *EDGE_CASES.values()]):
        inputs = _inputs(marketplace, model.query_features, rows)
        expected = Reference(model).query(model.query_features, inputs)
        assert_equal(model.query_tower(_constant(inputs)), expected)
        assert_equal(tf.function(model.query_tower)(_constant(inputs)), expected)
        served = reloaded.signatures[export.QUERY_SIGNATURE](examples=marketplace.serialize(rows))
        assert_equal(served[export.VECTORS], expected)


@pytest.mark.parametrize("case", EDGE_CASES)
@pytest.mark.parametrize("of", ["users", "items"])
def test_candidate_tower_is_the_reference(request, marketplace, of, case):
    fixtures = ("model", "reloaded") if of == "users" else ("item_model", "reloaded_items")
    model, reloaded = map(request.getfixturevalue, fixtures)
    for rows in ([EDGE_CASES[case]], [EDGE_CASES[case], *EDGE_CASES.values()]):
        inputs = _inputs(marketplace, model.candidate_features, rows)
        expected = Reference(model).candidate(model.candidate_features, inputs)
        assert_equal(model.candidate_tower(_constant(inputs)), expected)
        assert_equal(tf.function(model.candidate_tower)(_constant(inputs)), expected)
        served = reloaded.signatures[export.ITEM_SIGNATURE](examples=marketplace.serialize(rows))
        assert_equal(served[export.VECTORS], expected)
        assert served["item_id"][0].numpy().decode() == EDGE_CASES[case].get("item_id", "i1")


@pytest.mark.parametrize("case", ANCHORS)
def test_anchors_are_the_reference(item_model, marketplace, reloaded_items, case):
    """From the raw columns of a catalogue item, through the history's encodings."""
    for rows in ([ANCHORS[case]], [ANCHORS[case], *ANCHORS.values()]):
        inputs = _anchor_inputs(marketplace, item_model.query_features, rows)
        expected = Reference(item_model).query(item_model.query_features, inputs)
        assert_equal(item_model.query_tower(_constant(inputs)), expected)
        assert_equal(tf.function(item_model.query_tower)(_constant(inputs)), expected)
        served = reloaded_items.signatures[export.ANCHOR_SIGNATURE](examples=marketplace.serialize(rows))
        assert_equal(served[export.VECTORS], expected)
        assert served["item_id"][0].numpy().decode() == ANCHORS[case]["item_id"]


def test_the_reference_tells_the_anchors_apart(item_model, marketplace):
    inputs = _anchor_inputs(marketplace, item_model.query_features, list(ANCHORS.values()))
    vectors = Reference(item_model).query(item_model.query_features, inputs)
    assert np.linalg.norm(vectors[:, None] - vectors[None], axis=2)[np.triu_indices(4, 1)].min() > 0.05


def test_an_anchor_is_an_item_and_nothing_of_a_user(item_model):
    expected = {f"anchor_{name}_index" for name in ("item_id", "category", "brand", "shop_id")}
    assert {x.name for x in item_model.query_features} == expected
    assert not any(x.is_list for x in item_model.query_features)


def test_the_reference_tells_the_cases_apart(model, marketplace):
    """Else the comparisons above could not fail."""
    inputs = _inputs(marketplace, model.query_features, list(EDGE_CASES.values()))
    vectors = Reference(model).query(model.query_features, inputs)
    queries = vectors[[list(EDGE_CASES).index(c) for c in EDGE_CASES if "item" not in c]]
    assert np.linalg.norm(queries[:, None] - queries[None], axis=2)[np.triu_indices(4, 1)].min() > 0.05


def test_dense_raw_features_give_the_vectors_of_examples(model, marketplace, reloaded):
    rows = [EDGE_CASES[c] for c in ("known", "empty history", "unknown history")]
    signature = reloaded.signatures[export.QUERY_RAW_SIGNATURE]
    dense = {}
    for name, spec in signature.structured_input_signature[1].items():
        if spec.shape.rank == 1:
            default = {"user_id": "u1", "timestamp": MONDAY_MS}[name]
            dense[name] = tf.constant([row.get(name, default) for row in rows], spec.dtype)
            continue
        filler = "" if spec.dtype == tf.string else spec.dtype.min
        values = [row.get(name, []) for row in rows]
        values = [v if isinstance(v, list) else [v] for v in values]
        dense[name] = tf.constant([(v + [filler] * 3)[:3] for v in values], spec.dtype)
    from_dense = signature(**dense)[export.VECTORS]
    examples = marketplace.serialize(rows)
    from_examples = reloaded.signatures[export.QUERY_SIGNATURE](examples=examples)[export.VECTORS]
    assert_equal(from_dense, from_examples.numpy())


def test_disabled_groups_are_not_seen(marketplace, model):
    groups = ("history", "user_id", "text")
    config = RetrievalConfig(disabled_groups=groups)
    catalogue = {"item_id_index": np.arange(1, 3)}
    bare = RetrievalModel(marketplace.features, catalogue, np.full(3, 1 / 3), config)
    assert not {x.group for x in (*bare.query_features, *bare.candidate_features)} & set(groups)
    inputs = _inputs(marketplace, marketplace.features, [EDGE_CASES["known"], EDGE_CASES["empty history"]])
    other = {**inputs, "history_item_id_index": inputs["history_item_id_index"][::-1]}
    same_user = {**inputs, "user_id_index": np.zeros(2, np.int64)}
    expected = bare.query_tower(_constant(inputs))
    for changed in (other, same_user):
        np.testing.assert_array_equal(bare.query_tower(_constant(changed)), expected)


def _groups(features, role):
    return {x.group for x in features if x.role is role}


def test_a_query_of_a_history_alone_is_the_reference(marketplace):
    """As on a data set that says nothing of its users."""
    others = _groups(marketplace.features, f.Role.QUERY) - {"history"}
    config = dataclasses.replace(CONFIG, disabled_groups=tuple(sorted(others - {"item_id"})))
    model = _make_model(marketplace, marketplace.features, config)
    assert all(x.is_list for x in model.query_features)
    inputs = _inputs(marketplace, model.query_features, list(EDGE_CASES.values()))
    expected = Reference(model).query(model.query_features, inputs)
    assert_equal(model.query_tower(_constant(inputs)), expected)


@pytest.mark.parametrize("role", [f.Role.QUERY, f.Role.CANDIDATE])
def test_a_tower_without_a_feature_is_refused(marketplace, role):
    groups = tuple(sorted(_groups(marketplace.features, role)))
    message = rf"disabled_groups \['{groups[0]}'.* leave the {role.name.lower()} tower"
    with pytest.raises(ValueError, match=message):
        RetrievalModel(marketplace.features, {}, np.ones(1), RetrievalConfig(disabled_groups=groups))

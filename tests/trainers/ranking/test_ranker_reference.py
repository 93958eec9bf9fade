"""The ranker against a plain NumPy reference: eager, in a graph, in XLA, reloaded from a SavedModel."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from schemas import features as f
from trainers.batches import to_dense
from trainers.layers.feature_embedding import PADDING
from trainers.ranking.config import RankerConfig
from trainers.ranking.export import export_ranker
from trainers.ranking.model import Ranker
from trainers.saved_models import save_signatures
from trainers.scorers.data import REQUEST

SHAPE = {"embedding_dim": 6, "units": 5, "attention_dims": (7, 4), "head_dims": (8, 3), "product_dim": 3}
CONFIGS = {
    "none": RankerConfig(interest="none", **SHAPE),
    "din": RankerConfig(interest="din", **SHAPE),
    "din bilinear": RankerConfig(interest="din", attention="bilinear", activation="prelu", **SHAPE),
    "gru": RankerConfig(interest="gru", attention="bilinear", **SHAPE),
    "aigru": RankerConfig(interest="aigru", **SHAPE),
    "agru": RankerConfig(interest="agru", activation="prelu", **SHAPE),
    "augru": RankerConfig(interest="augru", **SHAPE),
    "augru bilinear": RankerConfig(interest="augru", attention="bilinear", **SHAPE),
    "augru_official": RankerConfig(interest="augru_official", attention="bilinear", **SHAPE),
}


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


class Reference:
    """One row at a time, from nothing but the weights by name."""

    def __init__(self, ranker):
        self.weights = {v.name.removesuffix(":0"): v.numpy().astype(np.float64) for v in ranker.variables}
        self.config, self.features = ranker.config, ranker.features

    def weight(self, name):
        return self.weights[f"ranker/{name}"]

    def table(self, feature):
        (name,) = (x for x in self.weights if x.endswith(f"tables/{feature.table}"))
        return self.weights[name]

    def dense(self, x, name):
        return x @ self.weight(f"{name}/kernel") + self.weight(f"{name}/bias")

    def embed(self, features, inputs, place):
        """A request's or a row's features that are no history, side by side; lists are averaged."""
        parts = [np.zeros(0)]
        for x in features:
            value = inputs[x.name][place]
            if x.size == 0:
                parts.append([value])
            elif x.is_list:
                ids = [i for i in value if i != PADDING]
                table = self.table(x)
                parts.append(table[ids].mean(axis=0) if ids else np.zeros(table.shape[1]))
            else:
                parts.append(self.table(x)[value])
        return np.concatenate(parts)

    def events(self, inputs, request):
        """[t, E] of a request, without what fills it."""
        columns = [(inputs[x.name][request], self.table(x)) for x in self.features.history]
        rows = [
            np.concatenate([table[max(ids[t], 0)] for ids, table in columns])  # 0 where one lacks
            for t in range(len(columns[0][0]))
            if columns[0][0][t] != PADDING
        ]
        return np.array(rows)

    def attend(self, states, target, name):
        p = target @ self.weight(f"{name}/to_event/kernel")
        if self.config.attention == "bilinear":
            scores = states @ p
        else:
            scores = np.array([self.attention_mlp(p, h, name) for h in states])
        exponentials = np.exp(scores - scores.max())
        return exponentials / exponentials.sum()

    def attention_mlp(self, p, h, name):
        hidden = self.dense(p, f"{name}/of_query") + h @ self.weight(f"{name}/of_event/kernel")
        hidden = np.maximum(hidden + (p * h) @ self.weight(f"{name}/of_product/kernel"), 0.0)
        for i in range(1, len(self.config.attention_dims)):
            hidden = np.maximum(self.dense(hidden, f"{name}/hidden_{i}"), 0.0)
        return (hidden @ self.weight(f"{name}/score/kernel"))[0]

    def recur(self, projected, weigh, name):
        """States of one history; `weigh(t, u)` is the share of what is new."""
        recurrent, bias = self.weight(f"{name}/recurrent"), self.weight(f"{name}/bias")
        n, h, states = self.config.units, np.zeros(self.config.units), []
        for t, x in enumerate(projected + bias):
            g = h @ recurrent
            u, r = sigmoid(x[:n] + g[:n]), sigmoid(x[n : 2 * n] + g[n : 2 * n])
            c = np.tanh(x[2 * n :] + r * g[2 * n :])
            w = weigh(t, u)
            h = (1 - w) * h + w * c
            states.append(h)
        return np.array(states)

    def interest(self, inputs, request, row):
        events = self.events(inputs, request)
        is_din = self.config.interest == "din"
        if not len(events):
            width = sum(self.table(x).shape[1] for x in self.features.history)
            return np.zeros(width if is_din else self.config.units)
        target = self.embed(self.features.target, inputs, row)
        if is_din:
            return self.attend(events, target, "interest/attention") @ events
        interests = self.recur(events @ self.weight("input/kernel"), lambda t, u: u, "extractor")
        second = self.weight("interest/evolution/input/kernel")
        attention, recurrence = "interest/evolution/attention", "interest/evolution/recurrence"
        if self.config.interest == "gru":
            states = self.recur(interests @ second, lambda t, u: u, recurrence)
            return self.attend(states, target, attention) @ states
        a = self.attend(interests, target, attention)
        if self.config.interest == "aigru":
            interests = a[:, np.newaxis] * interests
        weigh = {
            "aigru": lambda t, u: u,
            "agru": lambda t, u: a[t],
            "augru": lambda t, u: a[t] * u,
            "augru_official": lambda t, u: 1 - (1 - a[t]) * (1 - u),
        }[self.config.interest]
        return self.recur(interests @ second, weigh, recurrence)[-1]

    def moving(self, layer, part):
        (name,) = (x for x in self.weights if f"/dice_{layer}/" in x and x.endswith(f"moving_{part}"))
        return self.weights[name]

    def mean(self, inputs, request):
        """[I] of what was clicked."""
        events = self.events(inputs, request)
        width = sum(self.table(x).shape[1] for x in self.features.behaviour)
        return events[:, :width].mean(axis=0) if len(events) else np.zeros(width)

    def head(self, x):
        for i in range(len(self.config.head_dims)):
            z = self.dense(x, f"hidden_{i}")
            if self.config.activation == "prelu":
                x = np.maximum(z, 0) + self.weight(f"prelu_{i}/alpha") * np.minimum(z, 0)
                continue
            mean, variance = (self.moving(i, part) for part in ("mean", "variance"))
            p = sigmoid((z - mean) / np.sqrt(variance + 1e-8))
            x = p * z + (1 - p) * self.weight(f"dice_{i}/alpha") * z
        return x

    def score(self, inputs):
        """Logits [N, 1] and the hidden layer [N, H]."""
        inputs = {name: np.asarray(x) for name, x in inputs.items()}
        hidden, inner = [], []
        for row, request in enumerate(inputs[REQUEST]):
            candidate = self.embed(self.features.candidate, inputs, row)
            query, parts = self.embed(self.features.profile, inputs, request), [candidate]
            if self.config.interest != "none":
                mean = self.mean(inputs, request)
                query = np.concatenate([query, mean])
                target = self.embed(self.features.target, inputs, row)
                parts += [mean * target, self.interest(inputs, request, row)]
            product = self.dense(query, "project_query") * self.dense(candidate, "project_candidate")
            parts += [query, product]
            hidden.append(self.head(np.concatenate(parts)))
            inner.append(product.sum())
        return self.dense(np.array(hidden), "score") + np.array(inner)[:, np.newaxis], np.array(hidden)


@pytest.fixture(scope="module")
def rows(random_rows):
    """Of three requests, of one whose user, item and history nobody knows, and of one without a history."""
    rows = [
        {**row, "history_timestamp": sorted(row["history_timestamp"])}
        for row in random_rows("marketplace", 3, seed=7)
    ]
    return [*rows, {**rows[0], **STRANGE}, {**rows[1], **EMPTY}]


@pytest.fixture(scope="module")
def encoded(marketplace, rows):
    encoded = marketplace.encode(rows)
    return {x.name: to_dense(encoded[x.name], x) for x in marketplace.features}


STRANGE = {
    "user_id": "nobody",
    "item_id": "nothing",
    "category": "nothing",
    "history_item_id": ["x", "y"],
    "history_category": ["x", "c1"],
    "history_timestamp": [0, 1],
}
EMPTY = {"history_item_id": [], "history_category": [], "history_timestamp": []}
REQUESTS = [0, 0, 1, 3, 4, 4]  # of the six rows: two share a history, the third request has none


def make_inputs(encoded, features, rows):
    """Rows of `REQUESTS`, each with the item of the row's number."""
    requests = sorted({REQUESTS[row] for row in rows})
    items = [row % 5 for row in rows]
    inputs = {x.name: tf.gather(encoded[x.name], items) for x in features.candidate}
    inputs |= {x.name: tf.gather(encoded[x.name], requests) for x in (*features.profile, *features.history)}
    return {**inputs, REQUEST: tf.constant([requests.index(REQUESTS[row]) for row in rows], tf.int32)}


def assert_equal(actual, expected):
    """Within 1e-5 · max(1, |x|)."""
    assert actual.shape == expected.shape
    difference = np.abs(np.asarray(actual, np.float64) - expected)
    assert np.all(difference <= 1e-5 * np.maximum(1.0, np.abs(expected))), difference.max()


@pytest.fixture(scope="module")
def make_ranker(marketplace, encoded):
    """(name of `CONFIGS`) -> a ranker of random weights: zeros and ones, where many start, hide mistakes."""

    def make(name):
        ranker = Ranker(marketplace.features, CONFIGS[name], [0.2])
        ranker(make_inputs(encoded, ranker.features, range(6)))
        rng = np.random.default_rng(3)
        for variable in ranker.variables:
            low = 0.5 if "variance" in variable.name else -0.9
            variable.assign(rng.uniform(low, 0.9, variable.shape))
        return ranker

    return make


@pytest.fixture(scope="module", params=CONFIGS)
def ranker(request, make_ranker):
    return make_ranker(request.param)


PLACES = {"all": range(6), "unknown": [3], "empty history": [4]}


@pytest.mark.parametrize(
    ("mode", "places"),
    [*itertools.product(("eager", "graph"), PLACES), ("xla", "all"), ("xla", "empty history")],
)
def test_scores_are_the_reference(ranker, encoded, mode, places):
    inputs = make_inputs(encoded, ranker.features, PLACES[places])
    logits, hidden = Reference(ranker).score(inputs)
    score = ranker if mode == "eager" else tf.function(ranker, jit_compile=mode == "xla", autograph=False)
    found = score(inputs)
    assert_equal(found.logits.numpy(), logits)
    assert_equal(found.hidden.numpy(), hidden)


def test_padding_is_not_seen(ranker, encoded):
    inputs = make_inputs(encoded, ranker.features, range(6))
    lengths = [np.sum(np.asarray(inputs[x.name]) != PADDING, axis=1) for x in ranker.features.history]
    longest = np.max(lengths, initial=0)
    short = {**inputs, **{x.name: inputs[x.name][:, :longest] for x in ranker.features.history}}
    assert_equal(ranker(short).logits.numpy(), ranker(inputs).logits.numpy())


def test_every_form_scores_alike_when_it_is_saved_and_loaded(ranker, encoded, tmp_path):
    inputs = make_inputs(encoded, ranker.features, range(6))
    specs = {name: tf.TensorSpec([None, *x.shape[1:]], x.dtype) for name, x in inputs.items()}
    module = tf.Module()
    module.score = tf.function(ranker, input_signature=[specs], autograph=False)
    module.kept = list(ranker.variables)
    save_signatures(module, str(tmp_path), {})
    loaded = tf.saved_model.load(str(tmp_path))
    for places in PLACES.values():
        inputs = make_inputs(encoded, ranker.features, places)
        logits, hidden = Reference(ranker).score(inputs)
        found = loaded.score(inputs)
        assert_equal(found.logits.numpy(), logits)
        assert_equal(found.hidden.numpy(), hidden)


@pytest.fixture(scope="module", params=["none", "din", "augru"])
def exported(request, make_ranker, marketplace, tmp_path_factory):
    """A ranker, and what its trainer's export is loaded as; the other forms differ in nothing it sees."""
    ranker, path = make_ranker(request.param), str(tmp_path_factory.mktemp("exported"))
    export_ranker(ranker, marketplace.transform, path)
    loaded = tf.saved_model.load(path)
    assert set(loaded.signatures) == {"score_examples", "encode_items", "rank_encoded", "rank_encoded_raw"}
    return ranker, loaded


def make_pairs(rows, places):
    """Raw rows of `REQUESTS` as impressions: the request's columns with the item's."""
    items = f.read_features(f.load_schema("marketplace", f.ExampleType.ITEM))
    names = {x.name for x in items}
    return [
        {
            **{name: value for name, value in rows[REQUESTS[place]].items() if name not in names},
            **{name: value for name, value in rows[place % 5].items() if name in names},
        }
        for place in places
    ]


@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
def test_an_export_scores_as_the_reference(exported, marketplace, rows, encoded, places):
    ranker, served = exported
    inputs = make_inputs(encoded, ranker.features, places)
    wanted = sigmoid(Reference(ranker).score(inputs)[0][:, 0])
    examples = marketplace.serialize(make_pairs(rows, places))
    assert_equal(served.signatures["score_examples"](examples=examples)["clicked"].numpy(), wanted)
    # A request once, its candidates beside it.
    encoded_items = served.signatures["encode_items"](examples=examples)
    assert [x.decode() for x in encoded_items.pop("item_id").numpy()] == [
        pair["item_id"] for pair in make_pairs(rows, places)
    ]
    requests = sorted({REQUESTS[place] for place in places})
    queries = marketplace.serialize([rows[request] for request in requests])
    candidates = {**encoded_items, REQUEST: inputs[REQUEST]}
    found = served.signatures["rank_encoded"](examples=queries, **candidates)["clicked"]
    assert_equal(found.numpy(), wanted)


def test_a_history_that_is_not_in_order_is_refused(exported, marketplace, rows):
    _, served = exported
    wrong = {**rows[0], "history_item_id": ["i1", "i2"], "history_timestamp": [2000, 1000]}
    examples = marketplace.serialize([rows[1], wrong])
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"oldest event first, got .* rows.*1"):
        served.signatures["score_examples"](examples=examples)

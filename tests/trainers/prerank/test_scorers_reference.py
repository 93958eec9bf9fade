"""Student and teachers against a plain NumPy reference: eager, in a graph, and reloaded from a SavedModel."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from schemas import features as f
from trainers.batches import to_dense
from trainers.layers.feature_embedding import PADDING
from trainers.prerank import export
from trainers.prerank.config import TASKS, StudentConfig, TeacherConfig
from trainers.prerank.feature_choice import select_features
from trainers.prerank.model import TwoTowerStudent
from trainers.prerank.teachers import build_teacher
from trainers.scorers.data import REQUEST

MONDAY_MS = 1_704_067_200_000
SHAPE = {"embedding_dim": 6, "hidden_dims": (5, 4), "output_dim": 3, "num_history_heads": 2}
ONE, BOTH = ({**SHAPE, "tasks": TASKS[:count]} for count in (1, 2))
SCORERS = {
    "student": StudentConfig(**ONE),
    "student of two tasks": StudentConfig(**BOTH),
    "pfd_md": TeacherConfig(form="pfd_md", deep_dims=(7, 5), **BOTH),
    "md": TeacherConfig(form="md", deep_dims=(7,), **ONE),
    "pfd": TeacherConfig(form="pfd", deep_dims=(7, 5), **BOTH),
}
EXPORTED = tuple(SCORERS)[1:]  # a student of one task is what test_runner.py exports
STUDENT = EXPORTED[0]
TEACHERS = ("pfd_md", "md", "pfd")
KNOWN = {
    "user_id": "u1",
    "item_id": "i1",
    "title": "word1 word2",
    "category": "c1",
    "brand": "brand1",
    "price": 7.0,
    "gender": "gender1",
    "occupation": "occupation2",
    "city": "city1",
    "device": "device3",
    "history_item_id": ["i1", "i2", "i1"],
    "history_category": ["c0", "c1", "c1"],
    "history_timestamp": [MONDAY_MS - 9000, MONDAY_MS - 500, MONDAY_MS],
}
PRIVILEGED = {
    "user_shop_id_clicks": 3,
    "user_shop_id_impressions": 40,
    "user_shop_id_click_age_seconds": 3600.0,
    "user_brand_clicks": 500,
}
EDGE_CASES = {
    "known": {**KNOWN, **PRIVILEGED, "dwell_seconds": 30.0},
    "no dwell": {**KNOWN, **PRIVILEGED},
    "nothing privileged": KNOWN,
    "empty history": {"user_id": "u2", **PRIVILEGED},
    "unknown user": {**KNOWN, "user_id": "nobody", "city": "nowhere"},
    "unknown item": {
        **KNOWN,
        "item_id": "nothing",
        "title": "what is this",
        "category": "nothing",
        "brand": "none",
        "history_item_id": ["x", "nothing"],  # unknown both: no match
        "history_category": ["nothing", "c1"],
        "history_timestamp": [MONDAY_MS - 10**9, MONDAY_MS - 1],
    },
}


def assert_equal(actual, expected):
    """Within 1e-5 · max(1, |x|)."""
    assert actual.shape == expected.shape
    difference = np.abs(np.asarray(actual, np.float64) - expected)
    assert np.all(difference <= 1e-5 * np.maximum(1.0, np.abs(expected))), difference.max()


def _sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


class Reference:
    """The scorers in NumPy, from nothing but the weights by name."""

    def __init__(self, scorer, features):
        self.weights = {v.name.removesuffix(":0"): v.numpy().astype(np.float64) for v in scorer.variables}
        self.config = scorer.config
        self.by_role = {role: [x for x in features if x.role is role] for role in f.Role}

    def weight(self, suffix):
        if suffix in self.weights:  # the scorer's own
            return self.weights[suffix]
        (name,) = (n for n in self.weights if n.endswith(f"/{suffix}"))
        return self.weights[name]

    def dense(self, x, name):
        return x @ self.weight(f"{name}/kernel") + self.weight(f"{name}/bias")

    def embed(self, features, inputs):
        parts = []
        for x in features:
            values = np.asarray(inputs[x.name])
            if x.size == 0:
                parts.append(values[:, np.newaxis])
            elif x.is_list:
                table = self.weight(x.table)
                rows = [[table[i] for i in row if i != PADDING] for row in values]
                parts.append(np.array([np.mean(r, axis=0) if r else np.zeros(table.shape[1]) for r in rows]))
            else:
                parts.append(self.weight(x.table)[values])
        return np.concatenate(parts, axis=1)

    def pool(self, events, length):
        """[T, D] of which the first `length` are events, oldest first."""
        events = events[:length]
        hidden = np.tanh(self.dense(events, "history_pooling/hidden"))
        position = self.weight("position_bias")[np.arange(length)[::-1]]
        weights = np.exp(hidden @ self.weight("history_pooling/score/kernel") + position)
        return np.concatenate((weights / np.maximum(weights.sum(axis=0), 1e-30)).T @ events)

    def query(self, inputs):
        features = self.by_role[f.Role.QUERY]
        history = [x for x in features if x.is_list]
        parts = [self.embed([x for x in features if not x.is_list], inputs)]
        ids = [np.asarray(inputs[x.name]) for x in history]
        events = np.concatenate(
            [self.weight(x.table)[np.maximum(i, 0)] for x, i in zip(history, ids, strict=True)], axis=2
        )
        lengths = (ids[0] != PADDING).sum(axis=1)
        parts.append(np.array([self.pool(e, n) for e, n in zip(events, lengths, strict=True)]))
        return np.concatenate(parts, axis=1)

    def candidate(self, inputs):
        return self.embed(self.by_role[f.Role.CANDIDATE], inputs)

    def top(self, x, name):
        hidden = x
        for i in range(len(self.config.hidden_dims)):
            hidden = np.maximum(self.dense(hidden, f"{name}/hidden_{i}"), 0.0)
        vectors = x @ self.weight(f"{name}/linear/kernel") + self.dense(hidden, f"{name}/output")
        parts = vectors.reshape(len(x), len(self.config.tasks), self.config.output_dim)
        return (parts / np.linalg.norm(parts, axis=2, keepdims=True)).reshape(len(x), -1)

    def user_vectors(self, inputs):
        return self.top(self.query(inputs), "query_top")

    def item_vectors(self, inputs):
        return self.top(self.candidate(inputs), "candidate_top")

    def towers(self, inputs):
        products = self.user_vectors(inputs)[inputs[REQUEST]] * self.item_vectors(inputs)
        cosines = products.reshape(len(products), len(self.config.tasks), -1).sum(axis=2)
        return self.weight("scale") * cosines + self.weight("bias"), products

    def heads(self, hidden, inputs):
        """[N, K] of the click, and of the conversion, which knows what the click told besides."""
        logits = [hidden @ self.weight("head_clicked/kernel")]
        if len(self.config.tasks) == 2:
            after = self.by_role[f.Role.PRIVILEGED_POST_EVENT]
            more = np.concatenate([hidden, self.embed(after, inputs)], axis=1) if after else hidden
            logits.append(more @ self.weight("head_converted/kernel"))
        return np.concatenate(logits, axis=1)

    def pfd(self, inputs):
        logits, products = self.towers(inputs)
        hidden = self.embed(self.by_role[f.Role.PRIVILEGED], inputs)
        for i in range(len(self.config.deep_dims)):
            hidden = np.maximum(self.dense(hidden, f"privileged_{i}"), 0.0)
        return logits + self.heads(hidden, inputs), np.concatenate([products, hidden], axis=1)

    def wide_deep(self, inputs):
        query, candidate = self.query(inputs)[inputs[REQUEST]], self.candidate(inputs)
        product = self.dense(query, "project_query") * self.dense(candidate, "project_candidate")
        parts = [query, candidate, product]
        for name in ("item_id", "category", "brand", "shop_id"):
            item = np.asarray(inputs[f"{name}_index"])[:, np.newaxis]
            history = np.asarray(inputs[f"history_{name}_index"])[inputs[REQUEST]]
            parts.append(np.log1p(((history == item) & (item > 0)).sum(axis=1, keepdims=True)))
        if self.by_role[f.Role.PRIVILEGED]:
            parts.append(self.embed(self.by_role[f.Role.PRIVILEGED], inputs))
        hidden = np.concatenate(parts, axis=1)
        for i in range(len(self.config.deep_dims)):
            hidden = np.maximum(self.dense(hidden, f"deep_{i}"), 0.0)
        wide = sum(
            self.weight(f"wide_{x.name}")[np.asarray(inputs[x.name])] for x in self.by_role[f.Role.CROSS]
        )
        return self.heads(hidden, inputs) + wide + self.weight("bias"), hidden

    def score(self, inputs):
        """Logits [N, K] and the hidden layer [N, H]."""
        if isinstance(self.config, StudentConfig):
            return self.towers(inputs)
        return self.pfd(inputs) if self.config.form == "pfd" else self.wide_deep(inputs)


@dataclasses.dataclass
class Case:
    """A scorer with random weights, its reference, and where and what its SavedModel is, if it has one."""

    scorer: object
    features: tuple
    reference: Reference
    path: str
    signatures: dict


ROWS = list(EDGE_CASES.values())
# Batches of one, and the same rows in a batch of all.
BATCHES = (*([number] for number in range(len(ROWS))), list(range(len(ROWS))))


@pytest.fixture(scope="module")
def encode(marketplace):
    """Rows by number as a scorer takes them in, each a request of its own."""
    encoded = marketplace.encode(ROWS)
    dense = {x.name: to_dense(encoded[x.name], x).numpy() for x in marketplace.features}

    def encode(numbers, features):
        inputs = {x.name: dense[x.name][numbers] for x in features}
        return {**inputs, REQUEST: np.arange(len(numbers), dtype=np.int32)}

    return encode


def _tensors(inputs):
    return {name: tf.constant(values) for name, values in inputs.items()}


@pytest.fixture(scope="module")
def cases(marketplace, encode, tmp_path_factory):
    """`Case` by name, each made once."""
    made = {}

    def make(name):
        if name not in made:
            config, rates = SCORERS[name], (0.3, 0.1)
            features = select_features(marketplace.features, config)
            rates = rates[: len(config.tasks)]
            if name in TEACHERS:
                scorer = build_teacher(marketplace.features, config, rates)
            else:
                scorer = TwoTowerStudent(features, config, rates)
            scorer(_tensors(encode([0], features)))  # creates the variables
            rng = np.random.default_rng(3)
            for variable in scorer.variables:  # far from where they start: zeros hide mistakes
                variable.assign(rng.normal(scale=0.3, size=variable.shape))
            path = str(tmp_path_factory.mktemp("scorer"))
            if name in TEACHERS:
                export.export_teacher(scorer, 5, marketplace.transform, path)
            elif name in EXPORTED:
                export.export_student(scorer, marketplace.transform, path)
            signatures = tf.saved_model.load(path).signatures if name in EXPORTED else {}
            made[name] = Case(scorer, features, Reference(scorer, features), path, signatures)
        return made[name]

    return make


@pytest.mark.parametrize("name", SCORERS)
def test_scores_are_the_reference(cases, encode, name):
    case = cases(name)
    graph = tf.function(case.scorer, reduce_retracing=True, autograph=False)
    for numbers in BATCHES:
        inputs = encode(numbers, case.features)
        logits, hidden = case.reference.score(inputs)
        for scores in (case.scorer(_tensors(inputs)), graph(_tensors(inputs))):
            assert_equal(scores.logits, logits)
            assert_equal(scores.hidden, hidden)


@pytest.mark.parametrize("name", EXPORTED)
def test_served_probabilities_are_the_reference(cases, marketplace, encode, name):
    case = cases(name)
    examples, served = marketplace.serialize(ROWS), case.signatures[export.SCORE_SIGNATURE]
    for numbers in BATCHES:
        logits, _ = case.reference.score(encode(numbers, case.features))
        probabilities = served(examples=tf.gather(examples, numbers))
        assert set(probabilities) == {*case.scorer.config.tasks}
        for k, task in enumerate(case.scorer.config.tasks):
            assert_equal(probabilities[task], _sigmoid(logits[:, k]))


@pytest.mark.parametrize("name", SCORERS)
def test_rows_of_one_request_share_its_query(cases, encode, name):
    """Three requests of two rows, one and three."""
    case = cases(name)
    request = np.array([0, 0, 1, 2, 2, 2], np.int32)
    queries = encode([0, 3, 4], case.features)
    inputs = encode(BATCHES[-1], case.features)
    inputs |= {x.name: queries[x.name] for x in case.features if x.role is f.Role.QUERY}
    inputs[REQUEST] = request
    assert_equal(case.scorer(_tensors(inputs)).logits, case.reference.score(inputs)[0])


@pytest.mark.parametrize("name", SCORERS)
def test_the_reference_tells_the_cases_apart(cases, encode, name):
    """Else the comparisons above could not fail; but for what the scorer cannot see."""
    case = cases(name)
    logits, _ = case.reference.score(encode(BATCHES[-1], case.features))
    distances = np.abs(logits[:, np.newaxis] - logits).max(axis=2)
    same = {(i, j) for i, j in np.argwhere(distances < 1e-3).tolist() if i < j}
    privileged = {"pfd_md": set(), "pfd": set()}
    assert same == privileged.get(name, {(0, 1), (0, 2), (1, 2)})
    if name in privileged:  # the dwell time is the conversion's alone
        assert logits[0, 0] == logits[1, 0] != logits[2, 0]


@pytest.mark.parametrize("numbers", [BATCHES[0], BATCHES[-1]])
def test_vectors_are_the_reference_and_score_as_examples_do(cases, marketplace, encode, numbers):
    case, count = cases(STUDENT), len(numbers)
    inputs, examples = encode(numbers, case.features), marketplace.serialize([ROWS[n] for n in numbers])
    users = case.signatures[export.USER_SIGNATURE](examples=examples)[export.VECTORS]
    assert_equal(users, case.reference.user_vectors(inputs))
    answer = case.signatures[export.ITEM_SIGNATURE](examples=examples)
    assert_equal(answer[export.VECTORS], case.reference.item_vectors(inputs))
    assert answer[f.ITEM_ID].numpy().tolist() == [ROWS[n].get("item_id", "i1").encode() for n in numbers]
    lengths = tf.norm(tf.reshape(users, [count, 2, SHAPE["output_dim"]]), axis=2)
    np.testing.assert_allclose(lengths, 1.0, rtol=1e-5)
    # Every item for every user; the pairs of the examples are on the diagonal.
    items = tf.tile(answer[export.VECTORS][tf.newaxis], [count, 1, 1])
    scores = case.signatures[export.SCORE_VECTORS_SIGNATURE](user_vectors=users, item_vectors=items)
    pairs = case.signatures[export.SCORE_SIGNATURE](examples=examples)
    for task in TASKS:
        assert scores[task].shape == (count, count)
        assert_equal(tf.linalg.diag_part(scores[task]), pairs[task].numpy())


def test_dense_raw_features_give_the_vectors_of_examples(cases, marketplace):
    rows = [EDGE_CASES[case] for case in ("known", "empty history", "unknown user")]
    signatures = cases(STUDENT).signatures
    dense = {}
    for name, spec in signatures[export.USER_RAW_SIGNATURE].structured_input_signature[1].items():
        if spec.shape.rank == 1:
            dense[name] = tf.constant([row.get(name, MONDAY_MS) for row in rows], spec.dtype)
            continue
        filler = "" if spec.dtype == tf.string else spec.dtype.min
        values = [row.get(name, []) for row in rows]
        values = [v if isinstance(v, list) else [v] for v in values]
        dense[name] = tf.constant([(v + [filler] * 4)[:4] for v in values], spec.dtype)
    from_dense = signatures[export.USER_RAW_SIGNATURE](**dense)[export.VECTORS]
    from_examples = signatures[export.USER_SIGNATURE](examples=marketplace.serialize(rows))
    assert_equal(from_dense, from_examples[export.VECTORS].numpy())


@pytest.mark.parametrize("name", TEACHERS)
def test_a_loaded_teacher_teaches_what_it_was(cases, encode, name):
    """Rows of one request, one alone, and what a student has to know of it."""
    case = cases(name)
    teacher = export.load_teacher(case.path)
    assert (tuple(teacher.tasks), teacher.until_ms) == (case.scorer.config.tasks, 5)
    assert set(teacher.features) == {x.name for x in case.features}
    for numbers in (BATCHES[0], BATCHES[-1]):
        inputs = encode(numbers, case.features)
        logits, hidden = case.reference.score(inputs)
        scores = teacher.score({**_tensors(inputs), f.CLICKED: tf.zeros(len(numbers))})
        assert_equal(scores.logits, logits)
        assert_equal(scores.hidden, hidden)

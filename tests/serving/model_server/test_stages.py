"""The served order of candidates against the pair scorer of the stage's model on the same pairs: no skew.

Raw features go through JSON or tensors to the signatures `prerank` and `rank`; the reference is
`score_examples` of the SavedModel that the package was built of.
"""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from components.funnel_builder import prerank_package, rank_package
from components.funnel_builder.catalogue import CANDIDATES
from schemas import features as f

pytestmark = pytest.mark.slow

MODEL = "retrieval_brute_force"
FLAVOURS = ("brute_force", "scann")
TOLERANCE = 1e-5
STRANGER = b"no such user"
NEW_ITEM = b"no such item"


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage of the fixture `pushed`: its signature, what it says of an item, and its limits."""

    name: str
    tasks: tuple[str, ...]
    depth: int
    max_candidates: int


STAGES = (
    Stage("prerank", (f.CLICKED, f.CONVERTED), 50, prerank_package.MAX_CANDIDATES),
    Stage("rank", (f.CLICKED,), 30, rank_package.MAX_CANDIDATES),
)


@pytest.fixture(scope="module", params=STAGES, ids=[stage.name for stage in STAGES])
def stage(request):
    return request.param


@pytest.fixture(scope="module")
def client(pushed_server, connect):
    return connect(pushed_server)


@pytest.fixture(scope="module")
def signatures(pushed):
    return {flavour: pushed.load(flavour) for flavour in FLAVOURS}


@pytest.fixture(scope="module")
def specs(client, stage):
    """The inputs of the stage but the candidates, as the server tells them."""
    inputs = dict(client.signatures(MODEL)[0][stage.name].inputs)
    assert inputs.pop(CANDIDATES)
    return inputs


def read(example):
    """The values of a tf.Example by feature; absent ones are left out."""
    values = {}
    for name, feature in tf.train.Example.FromString(example).features.feature.items():
        kind = feature.WhichOneof("kind")
        if kind and len(getattr(feature, kind).value):
            values[name] = list(getattr(feature, kind).value)
    return values


def make_example(values):
    """A tf.Example of bytes, integers and floats."""
    example = tf.train.Example()
    kinds = {bytes: "bytes_list", int: "int64_list", float: "float_list"}
    for name, value in values.items():
        getattr(example.features.feature[name], kinds[type(value[0])]).value.extend(value)
    return example.SerializeToString()


@pytest.fixture(scope="module")
def queries(pushed, specs):
    """Query features of every tenth test example, and of requests that the split may lack."""
    found = [{name: x for name, x in read(e).items() if name in specs} for e in pushed.test_examples[::10]]
    whole = max(found, key=lambda query: (len(query), len(query.get(f.HISTORY_ITEM_ID, ()))))
    history = [name for name in whole if name.startswith(f.HISTORY_PREFIX)]
    assert len(found) > 30 and len(whole[f.HISTORY_ITEM_ID]) > 3
    return [
        *found,
        {**whole, f.USER_ID: [STRANGER]},
        {**whole, f.HISTORY_ITEM_ID: [NEW_ITEM, *whole[f.HISTORY_ITEM_ID][1:]]},
        {name: x for name, x in whole.items() if name not in history},
        {f.USER_ID: [STRANGER], f.TIMESTAMP: whole[f.TIMESTAMP]},
    ]


@pytest.fixture(scope="module")
def score_pairs(pushed, stage):
    """Probabilities [items, tasks] of a query with every item of the catalogue, by the pair scorer."""
    score = tf.saved_model.load(pushed.model_dirs[stage.name]).signatures["score_examples"]
    items = [read(x) for x in pushed.items]

    def score_pairs(query):
        pairs = tf.constant([make_example({**query, **item}) for item in items])
        answer = score(examples=pairs)
        assert set(answer) == set(stage.tasks)
        return np.stack([answer[task].numpy() for task in stage.tasks], axis=1)

    return score_pairs


@pytest.fixture(scope="module")
def candidates(pushed):
    """Most of the catalogue in another order, some items twice, strangers and empty places."""
    rng = np.random.default_rng(0)
    ids = rng.permutation(np.array(pushed.item_ids, object))[:120].tolist()
    return [NEW_ITEM, *ids, b"", *ids[:20], b""]


@pytest.fixture(scope="module")
def assert_ranked(pushed, stage):
    """An answer of a row is the order of the scores [items, tasks] of the candidates."""
    rows = {item: row for row, item in enumerate(pushed.item_ids)}

    def assert_ranked(answer, row, scores, candidates):
        item_ids = [x if isinstance(x, bytes) else x.encode() for x in answer[f.ITEM_ID][row]]
        assert set(answer) == {f.ITEM_ID, *stage.tasks}
        probabilities = np.stack([answer[task][row] for task in stage.tasks], axis=1)
        known = [item for item in set(candidates) if item in rows]
        best = np.sort(scores[[rows[item] for item in known], 0])[::-1][: len(item_ids)]
        assert set(item_ids) <= set(known) and len(set(item_ids)) == len(item_ids) == stage.depth
        np.testing.assert_allclose(probabilities[:, 0], best, rtol=0, atol=TOLERANCE)
        wanted = scores[[rows[item] for item in item_ids]]
        np.testing.assert_allclose(probabilities, wanted, rtol=0, atol=TOLERANCE)

    return assert_ranked


def to_inputs(query, specs):
    """One row of raw features as the stages take them."""
    inputs = {}
    for name, info in specs.items():
        values = np.array(query.get(name, []), tf.as_dtype(info.dtype).as_numpy_dtype)
        inputs[name] = values if len(info.tensor_shape.dim) == 1 else values[np.newaxis]
    return inputs


def to_json(array):
    return (
        np.vectorize(bytes.decode, [object])(array).tolist()
        if array.dtype == object and array.size
        else array.tolist()
    )


@pytest.fixture(scope="module")
def ask_columns(client, stage):
    """Arrays by name -> status and answer by REST."""

    def ask(inputs):
        columns = {name: to_json(x) if isinstance(x, np.ndarray) else x for name, x in inputs.items()}
        body = {"signature_name": stage.name, "inputs": columns}
        status, answer, _ = client.rest(f"{MODEL}:predict", body)
        return status, answer

    return ask


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_offline_the_answers_are_the_pair_scorers(
    signatures, stage, queries, candidates, score_pairs, assert_ranked, flavour
):
    all_scores = [score_pairs(query) for query in queries]
    assert np.ptp([scores[:, 0] for scores in all_scores]) > 0.2, "the scores are all alike"
    for start in range(0, len(queries), 20):
        part = queries[start : start + 20]
        answer = signatures[flavour][f"{stage.name}_examples"](
            examples=tf.constant([make_example(query) for query in part]),
            candidate_item_id=tf.constant([candidates] * len(part)),
        )
        answer = {name: x.numpy() for name, x in answer.items()}
        for row, scores in enumerate(all_scores[start : start + 20]):
            assert_ranked(answer, row, scores, candidates)


def test_served_one_by_one_they_are_too(
    client, stage, queries, candidates, score_pairs, assert_ranked, ask_columns, specs
):
    for query in [*queries[:3], *queries[-4:]]:
        scores = score_pairs(query)
        inputs = {**to_inputs(query, specs), CANDIDATES: np.array([candidates], object)}
        protos = {
            name: tf.make_tensor_proto(x, tf.string if x.dtype == object else None, x.shape)
            for name, x in inputs.items()
        }
        answer, _ = client.predict(protos, stage.name, MODEL)
        assert_ranked(answer, 0, scores, candidates)
        status, answer = ask_columns(inputs)
        assert status == 200, answer
        assert_ranked(answer["outputs"], 0, scores, candidates)


def test_of_many_candidates_those_of_the_catalogue_are_ranked(
    stage, pushed, queries, score_pairs, assert_ranked, ask_columns, specs
):
    count = min(10_000, stage.max_candidates)
    candidates = [*(b"stranger %d" % i for i in range(count - 100)), *pushed.item_ids[:100]]
    status, answer = ask_columns({**to_inputs(queries[0], specs), CANDIDATES: np.array([candidates], object)})
    assert status == 200, answer
    assert_ranked(answer["outputs"], 0, score_pairs(queries[0]), candidates)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({CANDIDATES: None}, "expected {most} at most a row"),
        ({CANDIDATES: [["i"], ["i"]]}, "expected equally many rows of each"),
        ({CANDIDATES: ["i"]}, "input 'candidate_item_id': expected string [?, ?], got string [1]"),
        ({f.HISTORY_ITEM_ID: [["i1", "i2"]], f.HISTORY_TIMESTAMP: [[1]]}, "expected lists of one length"),
    ],
)
def test_a_request_that_cannot_be_ranked_is_refused_by_name(
    stage, queries, ask_columns, specs, changed, message
):
    most = stage.max_candidates
    changed = {name: [["i"] * (most + 1)] if x is None else x for name, x in changed.items()}
    status, answer = ask_columns({**to_inputs(queries[-1], specs), CANDIDATES: [["i"]], **changed})
    assert status == 400 and message.format(most=most) in answer["error"], answer


def test_privileged_values_change_no_answer(signatures, pushed):
    """Of any signature, though the examples that are logged have them."""
    schema = f.load_schema("marketplace", f.ExampleType.IMPRESSION)
    names = [x.name for x in f.read_features(schema, f.Role.PRIVILEGED, f.Role.PRIVILEGED_POST_EVENT)]
    examples = [read(x) for x in pushed.test_examples[:20]]
    assert {name for x in examples for name in x} > set(names) - {f.DWELL_SECONDS}
    types = {x.name: float if x.type == 3 else int for x in f.read_features(schema)}
    changed = [
        {**x, **{name: [types[name](10_000 + row)] for name in names}} for row, x in enumerate(examples)
    ]
    for name, function in signatures["brute_force"].items():
        inputs = {CANDIDATES: pushed.item_ids, "exclude_item_id": [b""]}
        given = function.structured_input_signature[1]
        if "examples" not in given:
            continue
        others = {x: tf.constant([inputs[x]] * len(examples)) for x in given if x != "examples"}
        answers = [
            function(examples=tf.constant([make_example(x) for x in values]), **others)
            for values in (examples, changed)
        ]
        for output in answers[0]:
            np.testing.assert_array_equal(*(x[output].numpy() for x in answers), err_msg=name)

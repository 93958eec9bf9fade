"""The served ranking of candidates against the student's pair scorer on the same pairs: no skew.

Raw features go through JSON or tensors to the signature `prerank`; the reference is `score_examples` of the
SavedModel that the package was built of.
"""

import json

import numpy as np
import pytest
import tensorflow as tf
from typer.testing import CliRunner

from components.funnel_builder.prerank_package import CANDIDATES, MAX_CANDIDATES
from pipelines import cli
from pipelines.commands import ask
from schemas import features as f
from serving.model_server.model import LoadedModel
from serving.pushed_version import NothingPushedError, PushedVersion, read_user_state
from sources.event_log import EventLog

pytestmark = pytest.mark.slow

MODEL = "retrieval_brute_force"
FLAVOURS = ("brute_force", "scann")
TASKS = (f.CLICKED, f.CONVERTED)
TOLERANCE = 1e-5
STRANGER = b"no such user"
NEW_ITEM = b"no such item"


@pytest.fixture(scope="module")
def client(pushed_server, connect):
    return connect(pushed_server)


@pytest.fixture(scope="module")
def signatures(pushed):
    return {flavour: pushed.load(flavour) for flavour in FLAVOURS}


@pytest.fixture(scope="module")
def specs(client):
    """The inputs of `prerank` but the candidates, as the server tells them."""
    inputs = dict(client.signatures(MODEL)[0]["prerank"].inputs)
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
def score_pairs(pushed):
    """Probabilities [items, tasks] of a query with every item of the catalogue, by the pair scorer."""
    score = tf.saved_model.load(pushed.student_dir).signatures["score_examples"]
    items = [read(x) for x in pushed.items]

    def score_pairs(query):
        pairs = tf.constant([make_example({**query, **item}) for item in items])
        answer = score(examples=pairs)
        return np.stack([answer[task].numpy() for task in TASKS], axis=1)

    return score_pairs


@pytest.fixture(scope="module")
def candidates(pushed):
    """Most of the catalogue in another order, some items twice, strangers and empty places."""
    rng = np.random.default_rng(0)
    ids = rng.permutation(np.array(pushed.item_ids, object))[:120].tolist()
    return [NEW_ITEM, *ids, b"", *ids[:20], b""]


def assert_ranked(item_ids, probabilities, scores, pushed, candidates):
    """An answer [P], [P, tasks] is the order of the scores [items, tasks] of the candidates."""
    rows = {item: row for row, item in enumerate(pushed.item_ids)}
    known = [item for item in set(candidates) if item in rows]
    best = np.sort(scores[[rows[item] for item in known], 0])[::-1][: len(item_ids)]
    assert set(item_ids) <= set(known) and len(set(item_ids)) == len(item_ids) == 50
    np.testing.assert_allclose(probabilities[:, 0], best, rtol=0, atol=TOLERANCE)
    wanted = scores[[rows[item] for item in item_ids]]
    np.testing.assert_allclose(probabilities, wanted, rtol=0, atol=TOLERANCE)


def read_answer(answer, row):
    return list(answer[f.ITEM_ID][row]), np.stack([answer[task][row] for task in TASKS], axis=1)


def to_inputs(query, specs):
    """One row of raw features as `prerank` takes them."""
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


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_offline_the_answers_are_the_pair_scorers(
    signatures, pushed, queries, candidates, score_pairs, flavour
):
    answer = signatures[flavour]["prerank_examples"](
        examples=tf.constant([make_example(query) for query in queries]),
        candidate_item_id=tf.constant([candidates] * len(queries)),
    )
    answer = {name: x.numpy() for name, x in answer.items()}
    all_scores = [score_pairs(query) for query in queries]
    assert np.ptp([scores[:, 0] for scores in all_scores]) > 0.2, "the scores are all alike"
    for row, scores in enumerate(all_scores):
        assert_ranked(*read_answer(answer, row), scores, pushed, candidates)


def test_served_one_by_one_they_are_too(client, pushed, queries, candidates, score_pairs, specs):
    for query in [*queries[:3], *queries[-4:]]:
        scores = score_pairs(query)
        inputs = {**to_inputs(query, specs), CANDIDATES: np.array([candidates], object)}
        protos = {
            name: tf.make_tensor_proto(x, tf.string if x.dtype == object else None, x.shape)
            for name, x in inputs.items()
        }
        answer, _ = client.predict(protos, "prerank", MODEL)
        assert_ranked(*read_answer(answer, 0), scores, pushed, candidates)
        columns = {name: to_json(array) for name, array in inputs.items()}
        status, answer, _ = client.rest(f"{MODEL}:predict", {"signature_name": "prerank", "inputs": columns})
        assert status == 200, answer
        ids, probabilities = read_answer(answer["outputs"], 0)
        assert_ranked([x.encode() for x in ids], probabilities, scores, pushed, candidates)


def test_of_ten_thousand_candidates_those_of_the_catalogue_are_ranked(
    client, pushed, queries, score_pairs, specs
):
    candidates = [*(b"stranger %d" % i for i in range(9_900)), *pushed.item_ids[:100]]
    columns = {**to_inputs(queries[0], specs), CANDIDATES: np.array([candidates], object)}
    columns = {name: to_json(array) for name, array in columns.items()}
    status, answer, _ = client.rest(f"{MODEL}:predict", {"signature_name": "prerank", "inputs": columns})
    assert status == 200, answer
    ids, probabilities = read_answer(answer["outputs"], 0)
    assert_ranked([x.encode() for x in ids], probabilities, score_pairs(queries[0]), pushed, candidates)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({CANDIDATES: [["i"] * (MAX_CANDIDATES + 1)]}, f"expected {MAX_CANDIDATES} at most a row"),
        ({CANDIDATES: [["i"], ["i"]]}, "expected equally many rows of each"),
        ({CANDIDATES: ["i"]}, "input 'candidate_item_id': expected string [?, ?], got string [1]"),
        ({f.HISTORY_ITEM_ID: [["i1", "i2"]], f.HISTORY_TIMESTAMP: [[1]]}, "expected lists of one length"),
    ],
)
def test_a_request_that_cannot_be_ranked_is_refused_by_name(client, queries, specs, changed, message):
    columns = {name: to_json(array) for name, array in to_inputs(queries[-1], specs).items()}
    body = {"signature_name": "prerank", "inputs": {**columns, CANDIDATES: [["i"]], **changed}}
    status, answer, _ = client.rest(f"{MODEL}:predict", body)
    assert status == 400 and message in answer["error"], answer


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


def test_loading_a_version_calls_every_signature(toys, monkeypatch):
    called = []
    monkeypatch.setattr(LoadedModel, "predict", lambda self, x, inputs: called.append((x.name, inputs)))
    model = LoadedModel(toys / "1")
    model.warm_up()
    assert {name for name, _ in called} == model.signature_defs.keys() - {"__saved_model_init_op"}
    assert {x.shape for name, inputs in called if name == "version" for x in inputs.values()} == {
        (1,),
        (1, 3),
        (1, 1),
    }


def test_the_command_lines_answer_is_the_servers(signatures, pushed, monkeypatch):
    log = EventLog(pushed.directory.parent / "events")
    version = PushedVersion(pushed.directory, "brute_force")
    monkeypatch.setattr(ask, "_open", lambda root, flavour: (log, version))

    def run(*arguments):
        done = CliRunner().invoke(cli.app, ["prerank", *arguments], env={"COLUMNS": "200"})
        return done.exit_code, done.stdout, done.stderr

    user = read(pushed.test_examples[0])[f.USER_ID][0].decode()
    answers = signatures["brute_force"]["prerank_examples"](
        examples=tf.constant([read_user_state(log, user).example]), candidate_item_id=[pushed.item_ids[:9]]
    )
    options = [x for item in pushed.item_ids[:9] for x in ("--item", item.decode())]
    code, stdout, _ = run("--user", user, "--k", "5", "--json", *options)
    answer = json.loads(stdout)
    assert code == 0 and answer["candidates"] == 9 and answer["known"] and answer["version"] == pushed.version
    assert [x["item_id"].encode() for x in answer["items"]] == answers[f.ITEM_ID][0].numpy()[:5].tolist()
    for task in TASKS:
        np.testing.assert_allclose([x[task] for x in answer["items"]], answers[task][0][:5], atol=TOLERANCE)

    code, stdout, stderr = run("--user", "nobody")
    assert code == 0 and "nobody is not in" in stderr and "Of 100 candidates for nobody" in stdout
    assert "clicked" in stdout and "converted" in stdout
    code, _, stderr = run("--user", user, "--item", "no-such-item")
    assert code == 2 and "none of the items" in stderr


def test_a_version_without_the_stage_says_so():
    version = PushedVersion.__new__(PushedVersion)
    version.version, version._model = "3", tf.Module()
    version._model.signatures = {"recommend_examples": None}
    with pytest.raises(NothingPushedError, match="version 3 has no pre-ranking; `winnow run` pushes"):
        version.prerank(b"", ["i1"], 1)

"""`winnow prerank` and `winnow rank` on a pushed version, against its own signatures."""

import json

import numpy as np
import pytest
import tensorflow as tf
from typer.testing import CliRunner

from components.version_pusher import push_version
from pipelines import cli
from pipelines.commands import ask
from schemas import features as f
from serving.pushed_version import PushedVersion, read_user_state
from sources.event_log import EventLog

pytestmark = pytest.mark.slow

# By command: what is said of an item, and how many candidates are found where none is named.
STAGES = {"prerank": ((f.CLICKED, f.CONVERTED), 100), "rank": ((f.CLICKED,), 50)}


@pytest.fixture(params=STAGES)
def stage(request):
    return request.param


@pytest.fixture(scope="module")
def version(pushed):
    return PushedVersion(pushed.directory, "brute_force")


@pytest.fixture(scope="module")
def log(pushed):
    return EventLog(pushed.directory.parent / "events")


@pytest.fixture
def run(stage, log, version, monkeypatch):
    """Arguments -> exit code, stdout and stderr of the stage's command, asked of a version."""

    def run(*arguments, version=version):
        monkeypatch.setattr(ask, "_open", lambda root, flavour: (log, version))
        done = CliRunner().invoke(cli.app, [stage, *arguments], env={"COLUMNS": "200"})
        return done.exit_code, done.stdout, done.stderr

    return run


@pytest.fixture(scope="module")
def user(pushed):
    feature = tf.train.Example.FromString(pushed.test_examples[0]).features.feature[f.USER_ID]
    return feature.bytes_list.value[0].decode()


@pytest.fixture(scope="module")
def signatures(pushed):
    return pushed.load("brute_force")


@pytest.mark.parametrize("k", [5, 30])
def test_of_named_items_the_answer_is_the_signatures(stage, run, signatures, pushed, log, user, k):
    tasks, _ = STAGES[stage]
    expected = signatures[f"{stage}_examples"](
        examples=tf.constant([read_user_state(log, user).example]), candidate_item_id=[pushed.item_ids[:9]]
    )
    options = [x for item in pushed.item_ids[:9] for x in ("--item", item.decode())]
    code, stdout, _ = run("--user", user, "--k", str(k), "--json", *options, *options[:4])
    answer = json.loads(stdout)
    assert code == 0 and answer["candidates"] == 9 and answer["known"] and answer["version"] == pushed.version
    ids = [x["item_id"].encode() for x in answer["items"]]
    assert ids == expected[f.ITEM_ID][0].numpy()[:k].tolist() and len(ids) == min(k, 9)
    for task in tasks:
        np.testing.assert_allclose([x[task] for x in answer["items"]], expected[task][0][:k], atol=1e-5)
    assert all({f.ITEM_ID, "title", "category", *tasks} == x.keys() for x in answer["items"])


def test_without_items_the_stages_before_find_them(stage, run, pushed, log, version, user):
    _, found = STAGES[stage]
    code, stdout, _ = run("--user", user, "--k", "30", "--json")
    answer = json.loads(stdout)
    assert code == 0 and answer["candidates"] == found and len(answer["items"]) == 30
    example = read_user_state(log, user).example
    candidates = [x.item_id for x in version.recommend(example, [], 100)]
    if stage == "rank":
        candidates = [x.item_id for x in version.prerank(example, candidates, 50)]
    assert {x["item_id"] for x in answer["items"]} <= set(candidates)
    clicked = [x["clicked"] for x in answer["items"]]
    assert clicked == sorted(clicked, reverse=True)


def test_a_stranger_is_answered_and_called_one(stage, run):
    tasks, found = STAGES[stage]
    code, stdout, stderr = run("--user", "nobody")
    assert code == 0 and "nobody is not in" in stderr
    assert f"Of {found} candidates for nobody" in stdout and "synthetic" in stdout
    assert all(task in stdout for task in tasks)


def test_items_that_the_catalogue_lacks_are_refused(run, user):
    code, _, stderr = run("--user", user, "--item", "no-such-item")
    assert code == 2 and "none of the items" in stderr


def test_more_items_than_the_stage_takes_are_refused_before_it_is_asked(stage, user, run):
    most = {"prerank": 16_384, "rank": 1024}[stage]
    options = [x for n in range(most + 1) for x in ("--item", f"i{n}")]
    code, _, stderr = run("--user", user, *options)
    assert code == 2 and f"{most + 1:,} candidates, expected {most:,} at most" in stderr


def test_a_version_without_the_stage_ends_in_a_line(stage, run, pushed, user, tmp_path):
    """As one that was pushed before the stage was there."""
    bare = push_version(str(pushed.directory.parent / "retrieval"), str(tmp_path))
    code, *printed = run("--user", user, "--item", "i000001", version=PushedVersion(tmp_path, "scann"))
    message = f"winnow: version {bare} has no signature {stage}_examples; `winnow run` pushes one that has\n"
    assert code == 1 and "".join(printed) == message

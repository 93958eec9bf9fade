import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.ranking.amazon import LONGEST_HISTORY, PAPER, AmazonRows, describe_protocol
from benchmarks.ranking.behaviours import Behaviours, draw_negatives, read_behaviours, split_users
from benchmarks.ranking.models import DIEN, DIN, NONE, list_rankers
from pipelines import cli
from schemas import features as f
from sources.amazon import import_amazon
from sources.event_log import EventLog, EventLogError
from trainers.layers.feature_embedding import PADDING
from trainers.scorers.data import IS_ROW, QUERY, ROWS, USER

ROOT = Path(__file__).parents[2]
DAY = 86_400
START = 1_252_800_000


def write_reviews(folder, reviews, categories):
    """The files of the 2014 release: reviews (user, item, day), and the category of each item."""
    folder.mkdir(parents=True)
    lines = [
        json.dumps(
            {
                "reviewerID": user,
                "asin": item,
                "reviewerName": "J. McDonald",
                "helpful": [2, 3],
                "reviewText": "Works, thanks. It came in time and does what it says on the box.",
                "overall": 5.0,
                "summary": "ok",
                "unixReviewTime": START + int(day) * DAY,
                "reviewTime": "09 13, 2009",
            }
        )
        for user, item, day in reviews
    ]
    (folder / "reviews_Toys_5.json").write_text("\n".join(lines) + "\n")
    meta = [
        f"{{'asin': '{item}', 'title': 'a toy', 'categories': [['Toys', '{category}'], ['Gifts']]}}\n"
        for item, category in categories.items()
    ]
    (folder / "meta_Toys.json").write_text("".join(meta))
    return folder


@pytest.fixture
def make_log(tmp_path):
    """(reviews, categories) -> the event log that they are imported to."""

    def make(reviews, categories):
        import_amazon(write_reviews(tmp_path / "src", reviews, categories), tmp_path / "log")
        return EventLog(tmp_path / "log")

    return make


NUM_USERS, NUM_ITEMS, MANY = 120, 300, 7
CATEGORIES = {f"B{item:03d}": f"c{item % MANY}" for item in range(NUM_ITEMS)}


@pytest.fixture(scope="module")
def random_log(tmp_path_factory):
    """Users of 3 to 8 reviews, one of 1, and one of 140; some on one day; in the order of the items."""
    rng = np.random.default_rng(0)
    counts = [*rng.integers(3, 9, NUM_USERS - 1), 140, 1]
    reviews = [
        (f"A{user:03d}", f"B{item:03d}", rng.integers(0, 300))
        for user, count in enumerate(counts)
        for item in rng.integers(0, NUM_ITEMS, count)
    ]
    folder = tmp_path_factory.mktemp("random")
    write_reviews(folder / "src", sorted(reviews, key=lambda review: review[1]), CATEGORIES)
    import_amazon(folder / "src", folder / "log")
    return EventLog(folder / "log")


@pytest.fixture(scope="module")
def rows(random_log):
    return AmazonRows(random_log)


def test_reviews_are_sorted_by_time_and_within_a_day_as_in_the_file(make_log):
    reviews = [
        ("A2", "B1", 1),
        ("A1", "B3", 5),
        ("A1", "B2", 5),
        ("A9", "B2", 1),
        ("A1", "B1", 2),
        ("A2", "B3", 9),
        ("A9", "B1", 2),
        ("A2", "B1", 4),
        ("A1", "B3", 7),
    ]
    found = read_behaviours(make_log(reviews, {"B1": "Mills", "B2": "Cars", "B3": "Mills"}))
    ids = {"B1": 1, "B3": 2, "B2": 3}  # in the order of the file, from 1
    users = [["B1", "B1", "B3"], ["B1", "B3", "B2", "B3"]]  # A9 has two reviews
    assert found.items.tolist() == [ids[item] for items in users for item in items]
    assert found.starts.tolist() == [0, 3, 7] and found.lengths.tolist() == [3, 4]
    assert ((found.times // 1000 - START) // DAY).tolist() == [1, 4, 9, 2, 5, 5, 7]
    assert found.targets.tolist() == [ids["B3"]] * 2
    assert found.num_users == 2 and found.num_left_out == 1
    unknown, *categories = found.categories.tolist()
    assert unknown == 0 and min(categories) == 1
    assert categories[0] == categories[1] != categories[2]  # Mills, Mills, Cars


@pytest.mark.parametrize(
    ("categories", "expected"),
    [({"B1": "Mills", "B2": "Mills"}, r"\['Mills'\] for all of 2 items"), ({"B1": ""}, "'unknown'")],
)
def test_one_category_is_refused(make_log, categories, expected):
    log = make_log([("A1", item, 1) for item in ("B1", "B2")], categories)
    with pytest.raises(EventLogError, match=rf"items.parquet, category: expected several, got .*{expected}"):
        read_behaviours(log)


def test_users_of_few_reviews_alone_are_refused(make_log):
    log = make_log([("A1", "B1", 1), ("A2", "B2", 1), ("A2", "B1", 3)], {"B1": "Mills", "B2": "Cars"})
    with pytest.raises(EventLogError, match="none of 2 users has 3 reviews"):
        read_behaviours(log)


@pytest.mark.parametrize("num_users", [11, 100, 1234])
def test_nobody_is_in_two_parts(num_users):
    split = split_users(num_users, np.random.default_rng(1))
    parts = (split.train, split.evaluation, split.test)
    assert sorted(np.concatenate(parts)) == list(range(num_users))
    assert len(split.test) == num_users // 10
    assert len(split.evaluation) == (num_users - num_users // 10) // 10
    assert split_users(num_users, np.random.default_rng(1)).test.tolist() == split.test.tolist()


def test_too_few_users_are_refused():
    with pytest.raises(EventLogError, match="10 users have 3 reviews or more: expected enough"):
        split_users(10, np.random.default_rng(1))


def make_behaviours(users, num_items):
    """Of item ids by user."""
    return Behaviours(
        items=np.concatenate(users).astype(np.int32),
        times=np.zeros(sum(map(len, users)), np.int64),
        starts=np.append(0, np.cumsum([len(items) for items in users])),
        categories=np.arange(num_items + 1, dtype=np.int32),
        num_left_out=0,
    )


def test_negatives_are_none_of_the_users_own():
    """Items that are nearly all the user's own too, where most that are drawn are drawn again."""
    rng = np.random.default_rng(2)
    users = [rng.permutation(20)[: rng.integers(3, 20)] + 1 for _ in range(500)]
    negatives = draw_negatives(make_behaviours(users, 20), rng)
    assert not [user for user, items in enumerate(users) if negatives[user] in items]
    assert set(negatives) <= set(range(1, 21))


def test_negatives_are_drawn_by_popularity():
    """Those who have item 1 alone get 2 and 3 as often as the others have them, 3 to 1."""
    users = [[1, 1, 1]] * 4000 + [[2, 2, 3, 2]] * 1000
    negatives = draw_negatives(make_behaviours(users, 3), np.random.default_rng(3))
    assert set(negatives[4000:]) == {1} and set(negatives[:4000]) == {2, 3}
    assert np.mean(negatives[:4000] == 2) == pytest.approx(0.75, abs=0.03)


def test_a_user_who_has_every_item_is_refused():
    with pytest.raises(EventLogError, match="reviewed all of 3 items"):
        draw_negatives(make_behaviours([[1, 2, 1], [3, 1, 2, 2]], 9), np.random.default_rng(0))


def read_requests(dataset):
    """Each user's history, categories of it, pair of items and their categories."""
    found = {}
    for batch in dataset.as_numpy_iterator():
        query, pair = batch[QUERY], batch[ROWS]
        assert batch[IS_ROW].all() and pair[f.CLICKED].tolist() == [[1, 0]] * len(batch[USER])
        for number, user in enumerate(batch[USER]):
            items = query["history_item_id_index"][number]
            is_event = items != PADDING
            assert is_event[: is_event.sum()].all()
            categories = query["history_category_index"][number]
            assert (categories[~is_event] == PADDING).all()
            found[int(user)] = (
                items[is_event].tolist(),
                categories[is_event].tolist(),
                pair["item_id_index"][number].tolist(),
                pair["category_index"][number].tolist(),
            )
    return found


def test_histories_end_before_the_target_and_keep_the_newest(random_log, rows):
    behaviours = read_behaviours(random_log)
    training = rows.read(PAPER)
    parts = [read_requests(dataset) for dataset in (training.train, training.evaluation)]
    facts = rows.describe()
    assert [len(part) for part in parts] == [facts["train_users"], facts["eval_users"]]
    assert training.num_requests == facts["train_users"] and training.num_rows == 2 * training.num_requests
    assert facts["train_users"] + facts["eval_users"] + facts["test_users"] == NUM_USERS
    assert facts["left_out_users"] == 1 and facts["categories"] == MANY
    assert not parts[0].keys() & parts[1].keys()
    for user, (items, categories, (target, negative), pair_categories) in {**parts[0], **parts[1]}.items():
        own = behaviours.items[behaviours.starts[user] : behaviours.starts[user + 1]].tolist()
        assert [*items, target] == own[-LONGEST_HISTORY - 1 :]
        assert negative not in own and negative > 0
        assert categories == behaviours.categories[items].tolist()
        assert pair_categories == behaviours.categories[[target, negative]].tolist()
    lengths = [len(items) for part in parts for items, *_ in part.values()]
    assert max(lengths) == LONGEST_HISTORY  # the longest is not of the test users
    assert facts["mean_history"] == pytest.approx(np.minimum(behaviours.lengths - 1, LONGEST_HISTORY).mean())


def test_scores_are_in_the_order_of_the_test_rows(random_log, rows):
    training = rows.read(PAPER)
    test = rows.test_rows
    assert test.clicked.tolist() == [True, False] * rows.describe()["test_users"]
    assert test.users.tolist() == np.repeat(np.arange(rows.describe()["test_users"]), 2).tolist()

    def score_by(name):
        scorer = lambda inputs: types.SimpleNamespace(logits=inputs[name][:, None])  # noqa: E731
        return rows.score(scorer, training)

    trained = {*read_requests(training.train), *read_requests(training.evaluation)}
    untrained = sorted(set(range(NUM_USERS)) - trained)
    targets = read_behaviours(random_log).targets[untrained]
    assert sorted(score_by("item_id_index")[::2]) == sorted(targets)
    perfect = rows.measure(np.where(test.clicked, 5.0, -5.0))
    assert perfect["auc"] == perfect["gauc"] == 1.0
    assert perfect["log_loss"] == pytest.approx(np.log1p(np.exp(-5.0)))


@pytest.mark.parametrize("spec", list_rankers(PAPER, full=True), ids=lambda spec: spec.name)
def test_every_ranker_finds_what_it_needs(rows, spec):
    features = {x.name for x in rows.read(spec.config).features}
    assert ("history_item_id_index" in features) == (spec.name != NONE)
    assert {"item_id_index", "category_index", "user_id_index"} <= features


def test_the_protocol_says_what_it_is_not(rows):
    text = describe_protocol({**rows.describe(), "seeds": [1, 2]})
    assert "by user, at random, not by time, as in the paper" in text
    assert "1 users with fewer than 3 reviews left out" in text


@pytest.fixture
def call(tmp_path, monkeypatch):
    """(data) -> the result of the command up to the study, whose keys are in `call.keys`."""
    keys = []

    def stop(study, report):
        keys.append(dict(study.data_key))
        raise SystemExit(0)

    monkeypatch.setattr("benchmarks.ranking.study.run_study", stop)

    def call(data):
        return CliRunner().invoke(
            cli.app, ["bench", "dien-amazon", "--data", str(data), "--root", str(tmp_path / "root")]
        )

    call.keys = keys
    return call


REVIEWS = [(f"A{user}", f"B00{item}", item) for user in range(3) for item in range(3)]


def test_the_same_files_are_imported_once(call, tmp_path, monkeypatch):
    first = write_reviews(tmp_path / "first", REVIEWS, CATEGORIES)
    imports = []

    def count(src, *rest, **options):
        imports.append(src.name)
        return import_amazon(src, *rest, **options)

    monkeypatch.setattr("sources.amazon.import_amazon", count)
    assert call(first).exit_code == 0
    (first / "README").write_text("not theirs")
    first.rename(tmp_path / "moved")
    assert call(tmp_path / "moved").exit_code == 0
    assert call(write_reviews(tmp_path / "second", REVIEWS[::-1], CATEGORIES)).exit_code == 0
    assert imports == ["first", "second"]
    assert call.keys[0] == call.keys[1] != call.keys[2]
    assert len(list((tmp_path / "root" / "bench" / "dien-amazon").glob("log-*"))) == 2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nowhere", "nowhere: no such file or directory. Expected Amazon reviews"),
        ("empty", "empty: expected one file of reviews"),
        ("src/reviews_Toys_5.json", r"reviews_Toys_5.json: no file of metadata \(meta\*\)"),
        ("bare", r"bare: no file of metadata \(meta\*\)"),
    ],
)
def test_missing_files_are_named_before_anything_is_written(call, tmp_path, name, expected):
    write_reviews(tmp_path / "src", REVIEWS, CATEGORIES)
    (tmp_path / "empty").mkdir()
    (write_reviews(tmp_path / "bare", REVIEWS, {}) / "meta_Toys.json").unlink()
    result = call(tmp_path / name)
    assert isinstance(result.exception, EventLogError)
    with pytest.raises(EventLogError, match=expected):
        raise result.exception
    assert not (tmp_path / "root").exists()


def winnow(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pipelines.cli", *map(str, arguments)]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=1800
    )


def write_walks(folder, num_users, num_categories=12, items_of_category=10):
    """Users who, five times in six, go on from a category to the one that follows it in a ring."""
    rng = np.random.default_rng(0)
    ring = rng.permutation(num_categories)
    following = dict(zip(ring, np.roll(ring, -1), strict=True))
    reviews = []
    for user in range(num_users):
        category = rng.integers(num_categories)
        for day in range(rng.integers(5, 9)):
            item = category + num_categories * rng.integers(items_of_category)
            reviews.append((f"A{user:05d}", f"B{item:03d}", day))
            category = following[category] if rng.random() < 5 / 6 else rng.integers(num_categories)
    items = range(num_categories * items_of_category)
    return write_reviews(folder, reviews, {f"B{item:03d}": f"c{item % num_categories}" for item in items})


@pytest.mark.slow
def test_dien_amazon_end_to_end(tmp_path):
    """What is next follows from what was last: no history is a coin, an order is more than a set."""
    write_walks(tmp_path / "walks", 4000)
    common = ("bench", "dien-amazon", "--data", "walks", "--root", "root", "--seeds", 1, "--json")
    first = winnow(tmp_path, *common, "--plot", "study.png")
    assert first.returncode == 0, first.stderr
    assert "not by time" in " ".join(first.stdout.split())
    summary = json.loads(first.stdout.splitlines()[-1])
    rows = {row["name"]: row for row in summary["rows"]}
    assert list(rows) == [spec.name for spec in list_rankers(PAPER, full=False)]
    assert 0.4 < rows[NONE]["auc_mean"] < 0.6
    assert rows[DIEN]["auc_mean"] > max(0.7, rows[NONE]["auc_mean"] + 0.15, rows[DIN]["auc_mean"])
    assert summary["protocol"]["split"] == "by user" and not summary["protocol"]["synthetic"]
    assert summary["protocol"]["test_rows"] == 800
    assert (tmp_path / "study.png").stat().st_size > 10_000
    assert "WARNING" not in first.stderr
    second = winnow(tmp_path, *common)
    assert second.returncode == 0 and json.loads(second.stdout.splitlines()[-1]) == summary
    assert second.stderr.count("measured before") == len(rows) and "reading reviews" not in second.stderr

from pipelines import tensorflow_setup  # noqa: F401, I001  (before TensorFlow)

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from tfx.types import standard_artifacts

from components.index_builder.build import BRUTE_FORCE, SCANN, package_dir
from components.retrieval_evaluator import rankers
from components.index_builder.package import BruteForce, RetrievalPackage
from components.retrieval_evaluator.agreement import measure_agreement
from components.retrieval_evaluator.component import RetrievalEvaluator
from components.retrieval_evaluator.evaluate import (
    METRICS_FILE,
    PAIRS_PER_USER_FILE,
    PER_USER_FILE,
    NoQueriesError,
    measure,
)
from components.retrieval_evaluator.metrics import METRICS, compute_random_metrics, compute_row_metrics
from components.retrieval_evaluator.pairs import PairSet
from components.retrieval_evaluator.query_set import QuerySet
from components.retrieval_evaluator.rankers import (
    PackageRanker,
    PopularityRanker,
    RandomRanker,
    SimilarRanker,
)
from components.retrieval_evaluator.row_lists import RowLists
from trainers.retrieval import export

NUM_ITEMS = 40
ITEM_IDS = [f"i{number:02d}" for number in range(NUM_ITEMS)]
WIDTH = 6


def make_example(user="u1", item="i00", timestamp=0, clicked=1, history=(), known_at=()):
    def feature(value):
        if isinstance(value, int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        values = [value] if isinstance(value, str) else value
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[v.encode() for v in values]))

    values = {"user_id": user, "item_id": item, "timestamp": timestamp, "clicked": clicked}
    features = {name: feature(value) for name, value in values.items()}
    features["history_item_id"] = feature(list(history))
    features["history_timestamp"] = tf.train.Feature(int64_list=tf.train.Int64List(value=known_at))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write_split(folder, name, examples):
    path = folder / f"Split-{name}"
    path.mkdir(parents=True)
    with tf.io.TFRecordWriter(
        str(path / "part.gz"), tf.io.TFRecordOptions(compression_type="GZIP")
    ) as writer:
        for example in examples:
            writer.write(example)


def make_queries(tmp_path, train=(), test=(), exclude_seen=True, items=ITEM_IDS):
    """A query set over impressions given as arguments of `make_example`."""
    for name, rows in (("train", train), ("eval", ()), ("test", test)):
        write_split(tmp_path / "impressions", name, [make_example(**row) for row in rows])
    write_split(tmp_path / "items", "catalogue", [make_example(item=item) for item in items])
    return QuerySet(str(tmp_path / "impressions"), [str(tmp_path / "items" / "*" / "*")], exclude_seen)


class Towers(tf.Module):
    """The trainer's signatures: a query is the sum of its history's vectors and of its user's."""

    def __init__(self, item_vectors, user_vectors):
        super().__init__()
        self.items = self._lookup(ITEM_IDS)
        self.users = self._lookup([f"u{number}" for number in range(len(user_vectors))])
        # Row 0 is for the unknown.
        self.item_vectors = tf.Variable(np.vstack([np.zeros(WIDTH), item_vectors]), dtype=tf.float32)
        self.user_vectors = tf.Variable(np.vstack([np.zeros(WIDTH), user_vectors]), dtype=tf.float32)

    @staticmethod
    def _lookup(keys):
        values = tf.range(1, len(keys) + 1, dtype=tf.int64)
        return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(tf.constant(keys), values), 0)

    def _vectors(self, users, history):
        pooled = tf.reduce_sum(tf.gather(self.item_vectors, self.items.lookup(history)), axis=1)
        return {export.VECTORS: pooled + tf.gather(self.user_vectors, self.users.lookup(users))}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, export.EXAMPLES)])
    def query_vector(self, examples):
        spec = {
            "user_id": tf.io.FixedLenFeature([], tf.string),
            "history_item_id": tf.io.RaggedFeature(tf.string),
        }
        row = tf.io.parse_example(examples, spec)
        return self._vectors(row["user_id"], row["history_item_id"].to_tensor(""))

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, "user_id"),
            tf.TensorSpec([None, None], tf.string, "history_item_id"),
        ]
    )
    def query_vector_raw(self, user_id, history_item_id):
        return self._vectors(user_id, history_item_id)


def save_package(folder, item_vectors, user_vectors, depth):
    towers = Towers(item_vectors, user_vectors)
    signatures = {
        export.QUERY_SIGNATURE: towers.query_vector,
        export.QUERY_RAW_SIGNATURE: towers.query_vector_raw,
    }
    tf.saved_model.save(towers, str(folder / "towers"), signatures=signatures)
    ids_file = folder / "ids.txt"
    ids_file.write_text("\n".join(ITEM_IDS) + "\n")
    vectors = item_vectors.astype(np.float32)
    loaded = tf.saved_model.load(str(folder / "towers"))
    ids = np.array([item.encode() for item in ITEM_IDS], object)
    index = BruteForce(vectors)
    package = RetrievalPackage(loaded, ids, index, vectors, index, depth, str(ids_file))
    package.save(str(folder / "package"))
    return str(folder / "package")


def sort_in_full(scores, target, excluded):
    """The target's place among all items but the excluded; ties in the order of the ids."""
    order = np.argsort(-scores, kind="stable")
    return [row for row in order if row not in set(excluded)].index(target)


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_ranks_of_a_package_equal_a_full_sort(tmp_path, exclude_seen):
    rng = np.random.default_rng(0)
    item_vectors = rng.integers(-1, 2, (NUM_ITEMS, WIDTH))  # few values: many equal scores
    user_vectors = rng.integers(-1, 2, (3, WIDTH))
    train, test, expected = [], [], []
    for number in range(60):
        user = f"u{number % 5}"  # u3 and u4 are unknown to the towers
        clicked = rng.choice(NUM_ITEMS, int(rng.integers(0, 8)) if number % 5 != 4 else 0, replace=False)
        # With seen items left out a repeat is no query; kept, a target may be one.
        target = int(rng.choice(np.setdiff1d(np.arange(NUM_ITEMS), clicked if exclude_seen else [])))
        user = f"{user}" if number < 5 else f"{user}x{number}"
        train += [{"user": user, "item": ITEM_IDS[i], "timestamp": 1} for i in clicked]
        test.append(
            {
                "user": user,
                "item": ITEM_IDS[target],
                "timestamp": 5,
                "history": [ITEM_IDS[i] for i in clicked],
            }
        )
        own = user_vectors[int(user[1])] if user in ("u0", "u1", "u2") else np.zeros(WIDTH)
        scores = item_vectors @ (item_vectors[clicked].sum(axis=0) + own)
        excluded = clicked if exclude_seen else []
        expected.append(sort_in_full(scores, target, excluded))

    queries = make_queries(tmp_path, train, test, exclude_seen)
    ranker = PackageRanker(save_package(tmp_path, item_vectors, user_vectors, depth=NUM_ITEMS))
    ranks = np.concatenate([ranker.rank(batch) for batch in queries])

    assert ranks.tolist() == expected
    assert ranker.compute_coverage(NUM_ITEMS) == 1.0


def test_queries_with_many_exclusions_are_asked_apart(tmp_path, monkeypatch):
    counts = np.array([3, 900, 0, 2500, 3, 2500])
    groups = [group.tolist() for group in rankers._split_by_exclusions(counts)]
    assert groups == [[2, 0, 4, 1, 3, 5]]
    monkeypatch.setattr(rankers, "_MAX_COMPARISONS", 8_000_000)
    groups = [group.tolist() for group in rankers._split_by_exclusions(counts)]
    assert groups == [[2, 0, 4, 1], [3], [5]]

    item_vectors = np.random.default_rng(0).integers(-1, 2, (NUM_ITEMS, WIDTH))
    train = [{"user": f"u{n % 7}", "item": item, "timestamp": 1} for n, item in enumerate(ITEM_IDS * 2)]
    test = [{"user": f"u{n % 9}", "item": item, "timestamp": 5} for n, item in enumerate(ITEM_IDS)]
    (batch,) = make_queries(tmp_path, train, test)
    ranker = PackageRanker(save_package(tmp_path, item_vectors, np.ones((9, WIDTH)), depth=NUM_ITEMS))
    at_once = ranker.rank(batch)
    monkeypatch.setattr(rankers, "_MAX_COMPARISONS", 1)
    assert (ranker.rank(batch) == at_once).all()


def test_a_target_beyond_the_depth_is_not_found(tmp_path):
    item_vectors = np.zeros((NUM_ITEMS, WIDTH))
    item_vectors[:, 0] = -np.arange(NUM_ITEMS)  # the first item is the best
    test = [{"user": "u0", "item": item, "timestamp": 5} for item in ("i09", "i10")]
    queries = make_queries(tmp_path, (), test)
    ranker = PackageRanker(save_package(tmp_path, item_vectors, np.eye(1, WIDTH), depth=10))

    assert np.concatenate([ranker.rank(batch) for batch in queries]).tolist() == [9, np.inf]
    assert ranker.compute_coverage(NUM_ITEMS) == 10 / NUM_ITEMS


def test_popularity_equals_a_full_sort(tmp_path):
    rng = np.random.default_rng(1)
    train = [
        {"user": f"u{rng.integers(9)}", "item": ITEM_IDS[min(int(rng.exponential(6)), 39)], "timestamp": 1}
        for _ in range(150)
    ]
    clicks = np.array([sum(row["item"] == item for row in train) for item in ITEM_IDS])
    drawn = [{"user": f"u{rng.integers(12)}", "item": item, "timestamp": 5} for item in ITEM_IDS * 3]
    seen = {row["user"]: {r["item"] for r in train if r["user"] == row["user"]} for row in drawn}
    test = [row for row in drawn if row["item"] not in seen[row["user"]]]
    queries = make_queries(tmp_path, train, test)

    ranks = np.concatenate([PopularityRanker(queries.train_clicks).rank(batch) for batch in queries])

    for row, rank in zip(test, ranks, strict=True):
        excluded = [ITEM_IDS.index(item) for item in seen[row["user"]]]
        assert rank == sort_in_full(clicks, ITEM_IDS.index(row["item"]), excluded)


def test_random_equals_a_simulation(tmp_path):
    train = [{"user": "u1", "item": item, "timestamp": 1} for item in ITEM_IDS[:4] * 2]  # clicked twice
    queries = make_queries(tmp_path, train, [{"user": "u1", "item": "i20", "timestamp": 5}])
    closed_form = RandomRanker().measure(next(iter(queries)))

    drawn = compute_row_metrics(np.random.default_rng(0).integers(NUM_ITEMS - 4, size=400_000))

    for name in METRICS:
        assert closed_form[name] == pytest.approx(drawn[name].mean(), rel=0.01), name


def test_what_was_seen_is_left_out_and_a_repeat_is_no_query(tmp_path):
    train = [
        {"item": "i01", "timestamp": 1},
        {"item": "i02", "timestamp": 2},
        {"item": "i03", "timestamp": 3, "clicked": 0},  # shown is not seen
        {"item": "gone", "timestamp": 3},  # not in the catalogue
        {"user": "u2", "item": "i09", "timestamp": 1},
    ]
    test = [
        {"item": "i02", "timestamp": 5},  # clicked before: what is left out cannot be the answer
        {"item": "i05", "timestamp": 6},
        {"item": "i06", "timestamp": 6},  # the same moment as i05
        {"item": "i07", "timestamp": 4},
    ]
    (batch,) = make_queries(tmp_path, train, test)

    assert batch.targets.tolist() == [b"i05", b"i06", b"i07"]
    assert [rows.tolist() for rows in batch.clicked_before] == [[1, 2, 7, 2], [1, 2, 7, 2], [1, 2]]
    assert [rows.tolist() for rows in batch.excluded] == [[1, 2, 7, 2], [1, 2, 7, 2], [1, 2]]
    assert batch.whole_history.toarray().sum(axis=1).tolist() == [3, 3, 2]  # ones, not counts
    assert batch.whole_history.max() == 1


def test_seen_items_can_be_kept_and_repeats_are_queries_then(tmp_path):
    train = [{"item": "i01", "timestamp": 1}]
    test = [{"item": "i02", "timestamp": 5}, {"item": "i01", "timestamp": 6}]
    (batch,) = make_queries(tmp_path, train, test, exclude_seen=False)
    assert [len(rows) for rows in batch.excluded] == [0, 0]
    assert [len(rows) for rows in batch.clicked_before] == [1, 2]


def test_seen_items_are_the_users_own_and_earlier(tmp_path):
    """Users of one batch stand in any order, clicks in any order, some users have none at all."""
    rng = np.random.default_rng(3)
    clicks = [
        {"user": f"u{rng.integers(1, 6)}", "item": str(rng.choice(ITEM_IDS)), "timestamp": int(time)}
        for time in rng.integers(0, 12, 90)
    ]
    asked = [
        # u0 and u9, the first and the last, have no click on an item of the catalogue at all.
        {
            "user": f"u{n % 10}",
            "item": "gone" if n % 10 in (0, 9) else "i00",
            "timestamp": int(rng.integers(0, 14)),
        }
        for n in range(100)
    ]
    (batch,) = make_queries(tmp_path, clicks, asked, exclude_seen=False)

    every_click = [row for row in [*asked, *clicks] if row["item"] != "gone"]  # in the order of the files
    for row, seen in zip(asked, batch.clicked_before, strict=True):
        own = [c for c in every_click if c["user"] == row["user"] and c["timestamp"] < row["timestamp"]]
        oldest_first = sorted(own, key=lambda click: click["timestamp"])
        assert seen.tolist() == [ITEM_IDS.index(click["item"]) for click in oldest_first]


def test_a_query_is_not_charged_with_its_neighbours_exclusions(tmp_path):
    train = [{"user": "u1", "item": item, "timestamp": 1} for item in (*ITEM_IDS[:4], "i00")]  # i00 twice
    train += [{"user": "u3", "item": "i00", "timestamp": 1}]
    test = [{"user": user, "item": "i20", "timestamp": 5} for user in ("u0", "u1", "u2", "u3")]
    (batch,) = make_queries(tmp_path, train, test)

    clicks = NUM_ITEMS - np.arange(NUM_ITEMS)  # i20 is at place 20
    assert PopularityRanker(clicks).rank(batch).tolist() == [20, 16, 20, 19]
    expected = compute_random_metrics(NUM_ITEMS - np.array([0, 4, 0, 1]))
    assert RandomRanker().measure(batch)["mrr"].tolist() == expected["mrr"].tolist()


def test_lists_of_rows_read_as_the_lists_they_were_made_of():
    lists = [[3, 1, 3], [], [0, 2], [1]]
    rows = RowLists(np.array([3, 1, 3, 0, 2, 1]), np.array([3, 0, 2, 1]))
    assert [row.tolist() for row in rows] == lists
    assert rows[-1].tolist() == [1]
    assert [row.tolist() for row in rows[1:3]] == [[], [0, 2]]
    assert [row.tolist() for row in rows.take(np.array([2, 0, 1]))] == [[0, 2], [3, 1, 3], []]
    assert [row.tolist() for row in rows.distinct(4)] == [[1, 3], [], [0, 2], [1]]
    assert rows.owners.tolist() == [0, 0, 0, 2, 2, 3]
    assert [row.tolist() for row in RowLists.empty(2)] == [[], []]


def test_a_split_of_repeats_alone_is_refused(tmp_path):
    train = [{"item": "i01", "timestamp": 1}]
    with pytest.raises(NoQueriesError, match="exclude_seen"):
        measure({}, make_queries(tmp_path, train, [{"item": "i01", "timestamp": 6}]))


def test_what_is_known_comes_from_the_training_split(tmp_path):
    train = [{"user": "a", "item": "i01"}, {"user": "b", "item": "i02", "clicked": 0}]
    test = [
        {"user": "a", "item": "i02", "timestamp": 5},
        {"user": "b", "item": "i01", "timestamp": 5},
        {"user": "c", "item": "i01", "timestamp": 5},
        {"user": "c", "item": "gone", "timestamp": 6},
    ]
    (batch,) = make_queries(tmp_path, train, test)

    assert batch.known_user.tolist() == [True, True, False, False]  # a row is enough, clicked or not
    assert batch.new_item.tolist() == [True, False, False, True]
    assert batch.target_rows.tolist() == [2, 1, 1, -1]
    assert PopularityRanker(np.arange(NUM_ITEMS)).rank(batch)[-1] == np.inf
    assert RandomRanker().measure(batch)["recall_100"].tolist() == [1, 1, 1, 0]


def test_history_is_what_the_example_holds(tmp_path):
    test = [
        {"item": "i05", "timestamp": 5, "history": ["i03", "i01", "i03", "gone"]},
        {"item": "i06", "timestamp": 5},
    ]
    (batch,) = make_queries(tmp_path, (), test)
    assert batch.history.shape == (2, NUM_ITEMS)
    assert [np.flatnonzero(row).tolist() for row in batch.history.toarray()] == [[1, 3], []]
    assert batch.history.max() == 1


def test_only_clicks_ask(tmp_path):
    test = [{"item": "i05", "timestamp": 5, "clicked": 0}, {"item": "i06", "timestamp": 5}]
    queries = make_queries(tmp_path, (), test)
    metrics, about = measure({"random": RandomRanker()}, queries)
    assert len(metrics["random"]["recall_10"]) == len(about["user"]) == 1


def test_a_split_without_clicks_is_refused(tmp_path):
    with pytest.raises(ValueError, match="test split holds no clicked row"):
        make_queries(tmp_path, [{"item": "i01"}], [{"item": "i02", "clicked": 0}])


@pytest.mark.parametrize(("exclude_seen", "asked"), [(True, ["u0", "u1"]), (False, ["u0", "u0", "u1"])])
@pytest.mark.parametrize("has_pair", [True, False])
def test_the_component_asks_no_repeat_where_seen_items_are_left_out(tmp_path, exclude_seen, asked, has_pair):
    pair = {"history": ["i02"], "known_at": [4]} if has_pair else {}
    item_vectors = np.zeros((NUM_ITEMS, WIDTH))
    item_vectors[:, 0] = -np.arange(NUM_ITEMS)  # the first item is the best
    artifacts = {
        name: standard_artifacts.Model() if name in ("packages", "live") else standard_artifacts.Examples()
        for name in ("packages", "live", "transform_graph", "impressions", "items")
    }
    evaluation = standard_artifacts.ModelEvaluation()
    for name, artifact in {**artifacts, "evaluation": evaluation}.items():
        artifact.uri = str(tmp_path / name)
    artifacts["items"].split_names = '["catalogue"]'
    make_queries(
        tmp_path,
        train=[{"user": "u0", "item": item, "timestamp": 1} for item in ("i00", "i01")],
        test=[
            {"user": "u0", "item": "i01", "timestamp": 5},  # clicked before
            {"user": "u0", "item": "i03", "timestamp": 5, **pair},
            {"user": "u1", "item": "i01", "timestamp": 5},  # clicked before by u0 alone
        ],
    )
    path = save_package(tmp_path, item_vectors, np.eye(1, WIDTH).repeat(2, axis=0), depth=NUM_ITEMS)
    for flavour in (BRUTE_FORCE, SCANN):
        shutil.copytree(path, package_dir(artifacts["packages"].uri, flavour))

    RetrievalEvaluator.EXECUTOR_SPEC.executor_class().Do(
        {name: [artifact] for name, artifact in artifacts.items()},
        {"evaluation": [evaluation]},
        {"exclude_seen": int(exclude_seen), "session_gap_seconds": 2048, "code_fingerprint": ""},
    )

    report = json.loads((tmp_path / "evaluation" / METRICS_FILE).read_text())
    assert report["num_queries"] == len(asked)
    assert report["num_repeats"] == 3 - len(asked)
    assert report["index"] == {"candidate": {"depth": NUM_ITEMS, "recall": 1.0, "similar_recall": 1.0}}
    assert set(report["models"]) == {"candidate", "popularity", "random"}
    for name, slices in report["models"].items():  # what the lineage shows
        recorded = evaluation.get_json_value_custom_property(name)
        assert recorded == {metric: slices["all"][metric] for metric in ("recall_100", "ndcg_10")}
    table = pd.read_parquet(tmp_path / "evaluation" / PER_USER_FILE)
    assert sorted(table.user_id) == sorted(["u0", "u1"] * 3)  # a row per model and user
    candidate = table[table.model == "candidate"].set_index("user_id")
    assert candidate.queries.to_dict() == {user: asked.count(user) for user in asked}
    # u0: i03 is the second once i00 and i01 are out, else the fourth and i01 the second. u1: i01 is second.
    # With i02 in the history, whose vector is twice the user's and the opposite, the order is turned round.
    own = 1 / 37 if has_pair else 1 / 2 if exclude_seen else 1 / 4
    expected = {"u0": own if exclude_seen else (1 / 2 + own) / 2, "u1": 1 / 2}
    assert candidate.mrr.to_dict() == pytest.approx(expected)
    if not has_pair:
        assert report["item_to_item"] is None
        assert not (tmp_path / "evaluation" / PAIRS_PER_USER_FILE).exists()
        return
    pairs = report["item_to_item"]
    assert pairs["num_queries"] == pairs["num_users"] == 1
    table = pd.read_parquet(tmp_path / "evaluation" / PAIRS_PER_USER_FILE).set_index("model")
    # Neither may answer with i02, the anchor. By its vector i39 is the best and i03 the 37th; by clicks the
    # order is that of the ids.
    expected = {"candidate": 1 / 37, "popularity": 1 if exclude_seen else 1 / 3}
    assert table.mrr.drop("random").to_dict() == pytest.approx(expected)
    num_left = 37 if exclude_seen else 39
    harmonic = np.mean(1 / np.arange(1, num_left + 1))
    assert table.mrr["random"] == pytest.approx(harmonic, rel=1e-4)  # the ranker's formula is asymptotic


def test_pairs_are_told_by_the_newest_event_of_the_history(tmp_path):
    """A session of 2 s; a row is one case."""
    test = [
        {"item": "i01", "history": ["i08", "i09"], "known_at": [1, 9_000]},
        {"item": "i02", "history": ["i09"], "known_at": [8_001]},
        {"item": "i03", "history": ["i09"], "known_at": [8_000]},  # 2 s are not less than 2 s
        {"item": "i04", "history": ["i09", "i08"], "known_at": [9_000, 1]},
        {"item": "i05"},
        {"item": "i06", "history": ["i06"], "known_at": [9_000]},  # an item is no answer to itself
        {"item": "i07", "history": ["gone"], "known_at": [9_000]},
    ]
    train = [{"item": "i20", "timestamp": 1}]
    queries = make_queries(tmp_path, train, [{"timestamp": 10_000, **row} for row in test])
    (batch,) = PairSet(queries, 2)
    assert batch.targets.tolist() == [b"i01", b"i02", b"i07"]
    assert batch.anchors.tolist() == [b"i09", b"i09", b"gone"]
    assert [rows.tolist() for rows in batch.excluded] == [[20, 9], [20, 9], [20]]
    assert list(PairSet(queries, 1)) == []


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_ranks_by_an_anchor_equal_a_full_sort(tmp_path, exclude_seen):
    rng = np.random.default_rng(0)
    item_vectors = rng.integers(-1, 2, (NUM_ITEMS, WIDTH))
    train, test, expected = [], [], []
    for number in range(40):
        anchor, target, *seen = (int(i) for i in rng.choice(NUM_ITEMS, 5, replace=False))
        user = f"u{number}"
        train += [{"user": user, "item": ITEM_IDS[i], "timestamp": 1} for i in seen]
        history = {"history": [ITEM_IDS[seen[0]], ITEM_IDS[anchor]], "known_at": [2, 4]}
        test.append({"user": user, "item": ITEM_IDS[target], "timestamp": 5, **history})
        scores = item_vectors @ item_vectors[anchor]
        expected.append(sort_in_full(scores, target, [anchor, *(seen if exclude_seen else [])]))
    queries = make_queries(tmp_path, train, test, exclude_seen)
    ranker = SimilarRanker(save_package(tmp_path, item_vectors, np.zeros((3, WIDTH)), depth=NUM_ITEMS))
    assert np.concatenate([ranker.rank(batch) for batch in PairSet(queries, 1)]).tolist() == expected
    with pytest.raises(TypeError, match="anchors"):
        ranker.rank(next(iter(queries)))


def test_an_index_of_another_model_agrees_by_chance_alone(tmp_path):
    """As one that was built from the towers of an earlier run would."""
    rng = np.random.default_rng(0)
    vectors, depth = rng.normal(size=(NUM_ITEMS, WIDTH)), 8
    test = [{"item": item, "timestamp": 5, "history": [item]} for item in (*ITEM_IDS, "gone")]
    queries = make_queries(tmp_path, (), test)
    own, stale = (tmp_path / name for name in ("own", "stale"))
    own.mkdir(), stale.mkdir()
    shuffled = rng.permutation(vectors)
    own = save_package(own, vectors, np.zeros((1, WIDTH)), depth)
    stale = save_package(stale, shuffled, np.zeros((1, WIDTH)), depth)

    assert measure_agreement(own, own, queries) == {"depth": depth, "recall": 1.0, "similar_recall": 1.0}
    agreement = measure_agreement(own, stale, queries)

    def best(items, item, k):
        return set(np.argsort(-(items @ items[item]), kind="stable")[:k])

    shares = [len(best(vectors, i, depth) & best(shuffled, i, depth)) / depth for i in range(NUM_ITEMS)]
    # The unknown item's query is the zero vector: both answer with the first items.
    assert agreement["recall"] == pytest.approx(np.mean([*shares, 1.0]))
    assert agreement["similar_recall"] < 0.5


def test_lists_of_rows_are_lengthened_one_by_one():
    rows = RowLists(np.array([3, 1, 0]), np.array([2, 0, 1, 0]))
    longer = rows.append(np.array([7, 8, -1, 9]))
    assert [row.tolist() for row in longer] == [[3, 1, 7], [8], [0], [9]]
    assert [row.tolist() for row in rows] == [[3, 1], [], [0], []]

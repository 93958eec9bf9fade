import numpy as np
import pytest

from benchmarks.retrieval.score_rankers import FunctionRanker, ItemModelRanker

ITEMS = [f"i{number:02d}" for number in range(30)]


def test_ranks_equal_a_full_sort(make_data):
    rng = np.random.default_rng(0)
    train = [(f"u{rng.integers(6)}", str(rng.choice(ITEMS)), 1, []) for _ in range(60)]
    test = [(f"u{rng.integers(9)}", str(rng.choice(ITEMS)), 5, []) for _ in range(200)]
    data = make_data({"train": train, "test": test}, ITEMS)
    scores = rng.integers(0, 4, (200, 30)).astype(np.float32)  # many ties
    scores[:, 7] = -np.inf
    batches = data.queries("test")
    offsets = np.cumsum([0] + [len(batch.users) for batch in batches])
    assert len(batches) == 2

    for batch, start, stop in zip(batches, offsets[:-1], offsets[1:], strict=True):
        part = scores[start:stop]
        ranks = FunctionRanker(lambda _, part=part: part, data.popularity_ranks).rank(batch)
        for row, target, excluded, rank in zip(part, batch.target_rows, batch.excluded, ranks, strict=True):
            order = np.lexsort((data.popularity_ranks, -row))
            left = [item for item in order if item not in set(excluded)]
            assert rank == left.index(target)


def test_a_target_outside_the_catalogue_is_not_found(make_data):
    data = make_data({"train": [("a", "i00", 1, [])], "test": [("a", "gone", 5, [])]}, ITEMS)
    (batch,) = data.queries("test")
    assert FunctionRanker(lambda _: np.zeros((1, 30)), data.popularity_ranks).rank(batch).tolist() == [np.inf]


def test_without_a_history_the_popular_come_first(make_data):
    train = [("a", "i05", 1, []), ("b", "i05", 1, []), ("a", "i02", 2, [])]
    test = [("new", item, 5, []) for item in ("i05", "i02", "i00")]
    data = make_data({"train": train, "test": test}, ITEMS)
    weights = np.ones((2, 2), np.float32)
    (batch,) = data.queries("test")
    assert ItemModelRanker(weights, data.active, data.popularity_ranks).rank(batch).tolist() == [0, 1, 2]


def test_the_whole_history_is_more_than_the_examples_hold(make_data):
    train = [("a", item, 1, []) for item in ("i00", "i01", "i02")] + [("b", "i03", 1, [])]
    data = make_data({"train": train, "test": [("a", "i03", 5, ["i02"])]}, ITEMS)
    (batch,) = data.queries("test")
    weights = np.array([[0, 0, 0, 1.0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]], np.float32)
    scores = {
        whole: ItemModelRanker(weights, data.active, data.popularity_ranks, whole_history=whole).score(batch)
        for whole in (False, True)
    }
    assert scores[False][0, 3] == pytest.approx(1.0)
    assert scores[True][0, 3] == pytest.approx(3.0)  # i00, i01 and i02; its own weight is 0


def test_the_data_counts_a_repeated_click_once(make_data):
    train = [("a", "i00", 1, []), ("a", "i00", 2, []), ("b", "i04", 2, [])]
    later = {"eval": [("b", "i00", 3, [])], "test": [("c", "i00", 86_400_000, [])]}
    data = make_data({"train": train, **later}, ITEMS)
    assert data.train_matrix.toarray().tolist() == [[1, 0], [0, 1]]
    assert data.item_clicks[[0, 4]].tolist() == [2, 1]
    facts = data.describe()
    assert {name: facts[name] for name in ("users", "known_users", "new_users", "queries", "items")} == {
        "users": 1,
        "known_users": 0,
        "new_users": 1,
        "queries": 1,
        "items": 30,
    }
    assert facts["days"]["test"] == ["1970-01-02", "1970-01-02"]

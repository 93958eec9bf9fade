"""Every ranker gives the place of the target in a full sort."""

import numpy as np
import pytest

from components.index_builder.package import load_package
from components.retrieval_evaluator import rankers
from components.retrieval_evaluator.metrics import METRICS, compute_random_metrics, compute_row_metrics
from components.retrieval_evaluator.pairs import PairSet
from components.retrieval_evaluator.rankers import (
    PackageRanker,
    PopularityRanker,
    RandomRanker,
    SimilarRanker,
)


def sort_in_full(scores, target, excluded):
    """The target's place among all items but the excluded; ties in the order of the ids."""
    order = np.argsort(-scores, kind="stable")
    return [row for row in order if row not in set(excluded)].index(target)


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_ranks_of_a_package_equal_a_full_sort(world, exclude_seen):
    rng = np.random.default_rng(0)
    item_vectors = rng.integers(-1, 2, (world.num_items, world.width))  # few values: many equal scores
    user_vectors = rng.integers(-1, 2, (3, world.width))
    train, test, expected = [], [], []
    for number in range(60):
        user = f"u{number % 5}"  # u3 and u4 are unknown to the towers
        num_clicked = int(rng.integers(0, 8)) if number % 5 != 4 else 0
        clicked = rng.choice(world.num_items, num_clicked, replace=False)
        # With seen items left out a repeat is no query; kept, a target may be one.
        target = int(rng.choice(np.setdiff1d(np.arange(world.num_items), clicked if exclude_seen else [])))
        user = f"{user}" if number < 5 else f"{user}x{number}"
        train += [{"user": user, "item": world.item_ids[i], "timestamp": 1} for i in clicked]
        test.append(
            {
                "user": user,
                "item": world.item_ids[target],
                "timestamp": 5,
                "history": [world.item_ids[i] for i in clicked],
            }
        )
        own = user_vectors[int(user[1])] if user in ("u0", "u1", "u2") else np.zeros(world.width)
        scores = item_vectors @ (item_vectors[clicked].sum(axis=0) + own)
        excluded = clicked if exclude_seen else []
        expected.append(sort_in_full(scores, target, excluded))

    queries = world.make_queries(train, test, exclude_seen)
    ranker = PackageRanker(load_package(world.save_package(item_vectors, user_vectors)))
    ranks = np.concatenate([ranker.rank(batch) for batch in queries])

    assert ranks.tolist() == expected
    assert ranker.compute_coverage(world.num_items) == 1.0


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_ranks_by_an_anchor_equal_a_full_sort(world, exclude_seen):
    rng = np.random.default_rng(0)
    item_vectors = rng.integers(-1, 2, (world.num_items, world.width))
    train, test, expected = [], [], []
    for number in range(40):
        anchor, target, *seen = (int(i) for i in rng.choice(world.num_items, 5, replace=False))
        user = f"u{number}"
        train += [{"user": user, "item": world.item_ids[i], "timestamp": 1} for i in seen]
        history = {"history": [world.item_ids[seen[0]], world.item_ids[anchor]], "known_at": [2, 4]}
        test.append({"user": user, "item": world.item_ids[target], "timestamp": 5, **history})
        scores = item_vectors @ item_vectors[anchor]
        expected.append(sort_in_full(scores, target, [anchor, *(seen if exclude_seen else [])]))
    queries = world.make_queries(train, test, exclude_seen)
    ranker = SimilarRanker(load_package(world.save_package(item_vectors, np.zeros((3, world.width)))))
    assert np.concatenate([ranker.rank(batch) for batch in PairSet(queries, 1)]).tolist() == expected
    with pytest.raises(TypeError, match="anchors"):
        ranker.rank(next(iter(queries)))


def test_queries_with_many_exclusions_are_asked_apart(world, monkeypatch):
    counts = np.array([3, 900, 0, 2500, 3, 2500])
    groups = [group.tolist() for group in rankers._split_by_exclusions(counts)]
    assert groups == [[2, 0, 4, 1, 3, 5]]
    monkeypatch.setattr(rankers, "_MAX_COMPARISONS", 8_000_000)
    groups = [group.tolist() for group in rankers._split_by_exclusions(counts)]
    assert groups == [[2, 0, 4, 1], [3], [5]]

    item_vectors = np.random.default_rng(0).integers(-1, 2, (world.num_items, world.width))
    train = [{"user": f"u{n % 7}", "item": item, "timestamp": 1} for n, item in enumerate(world.item_ids * 2)]
    test = [{"user": f"u{n % 9}", "item": item, "timestamp": 5} for n, item in enumerate(world.item_ids)]
    (batch,) = world.make_queries(train, test)
    ranker = PackageRanker(load_package(world.save_package(item_vectors, np.ones((9, world.width)))))
    at_once = ranker.rank(batch)
    monkeypatch.setattr(rankers, "_MAX_COMPARISONS", 1)
    assert (ranker.rank(batch) == at_once).all()


def test_a_target_beyond_the_depth_is_not_found(world):
    item_vectors = np.zeros((world.num_items, world.width))
    item_vectors[:, 0] = -np.arange(world.num_items)  # the first item is the best
    test = [{"user": "u0", "item": item, "timestamp": 5} for item in ("i09", "i10")]
    queries = world.make_queries((), test)
    ranker = PackageRanker(load_package(world.save_package(item_vectors, np.eye(1, world.width), depth=10)))

    assert np.concatenate([ranker.rank(batch) for batch in queries]).tolist() == [9, np.inf]
    assert ranker.compute_coverage(world.num_items) == 10 / world.num_items


def test_popularity_equals_a_full_sort(world):
    rng = np.random.default_rng(1)
    train = [
        {"user": f"u{user}", "item": world.item_ids[min(int(place), 39)], "timestamp": 1}
        for user, place in zip(rng.integers(9, size=150), rng.exponential(6, 150), strict=True)
    ]
    clicks = np.array([sum(row["item"] == item for row in train) for item in world.item_ids])
    drawn = [{"user": f"u{rng.integers(12)}", "item": item, "timestamp": 5} for item in world.item_ids * 3]
    seen = {row["user"]: {r["item"] for r in train if r["user"] == row["user"]} for row in drawn}
    test = [row for row in drawn if row["item"] not in seen[row["user"]]]
    queries = world.make_queries(train, test)

    ranks = np.concatenate([PopularityRanker(queries.train_clicks).rank(batch) for batch in queries])

    for row, rank in zip(test, ranks, strict=True):
        excluded = [world.item_ids.index(item) for item in seen[row["user"]]]
        assert rank == sort_in_full(clicks, world.item_ids.index(row["item"]), excluded)


def test_random_equals_a_simulation(world):
    train = [{"user": "u1", "item": item, "timestamp": 1} for item in world.item_ids[:4] * 2]  # clicked twice
    queries = world.make_queries(train, [{"user": "u1", "item": "i20", "timestamp": 5}])
    closed_form = RandomRanker().measure(next(iter(queries)))

    drawn = compute_row_metrics(np.random.default_rng(0).integers(world.num_items - 4, size=400_000))

    for name in METRICS:
        assert closed_form[name] == pytest.approx(drawn[name].mean(), rel=0.01), name


def test_a_query_is_not_charged_with_its_neighbours_exclusions(world):
    clicked = (*world.item_ids[:4], "i00")  # i00 twice
    train = [{"user": "u1", "item": item, "timestamp": 1} for item in clicked]
    train += [{"user": "u3", "item": "i00", "timestamp": 1}]
    test = [{"user": user, "item": "i20", "timestamp": 5} for user in ("u0", "u1", "u2", "u3")]
    (batch,) = world.make_queries(train, test)

    clicks = world.num_items - np.arange(world.num_items)  # i20 is at place 20
    assert PopularityRanker(clicks).rank(batch).tolist() == [20, 16, 20, 19]
    expected = compute_random_metrics(world.num_items - np.array([0, 4, 0, 1]))
    assert RandomRanker().measure(batch)["mrr"].tolist() == expected["mrr"].tolist()

"""Which clicks are queries, and what is known, seen and excluded of each."""

import numpy as np
import pytest

from components.retrieval_evaluator.rankers import PopularityRanker, RandomRanker


def test_what_was_seen_is_left_out_and_a_repeat_is_no_query(world):
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
    (batch,) = world.make_queries(train, test)

    assert batch.targets.tolist() == [b"i05", b"i06", b"i07"]
    assert [rows.tolist() for rows in batch.clicked_before] == [[1, 2, 7, 2], [1, 2, 7, 2], [1, 2]]
    assert [rows.tolist() for rows in batch.excluded] == [[1, 2, 7, 2], [1, 2, 7, 2], [1, 2]]
    assert batch.whole_history.toarray().sum(axis=1).tolist() == [3, 3, 2]  # ones, not counts
    assert batch.whole_history.max() == 1


def test_seen_items_can_be_kept_and_repeats_are_queries_then(world):
    train = [{"item": "i01", "timestamp": 1}]
    test = [{"item": "i02", "timestamp": 5}, {"item": "i01", "timestamp": 6}]
    (batch,) = world.make_queries(train, test, exclude_seen=False)
    assert [len(rows) for rows in batch.excluded] == [0, 0]
    assert [len(rows) for rows in batch.clicked_before] == [1, 2]


def test_seen_items_are_the_users_own_and_earlier(world):
    """Users of one batch stand in any order, clicks in any order, some users have none at all."""
    rng = np.random.default_rng(3)
    clicks = [
        {"user": f"u{rng.integers(1, 6)}", "item": str(rng.choice(world.item_ids)), "timestamp": int(time)}
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
    (batch,) = world.make_queries(clicks, asked, exclude_seen=False)

    every_click = [row for row in [*asked, *clicks] if row["item"] != "gone"]  # in the order of the files
    for row, seen in zip(asked, batch.clicked_before, strict=True):
        own = [c for c in every_click if c["user"] == row["user"] and c["timestamp"] < row["timestamp"]]
        oldest_first = sorted(own, key=lambda click: click["timestamp"])
        assert seen.tolist() == [world.item_ids.index(click["item"]) for click in oldest_first]


def test_what_is_known_comes_from_the_training_split(world):
    train = [{"user": "a", "item": "i01"}, {"user": "b", "item": "i02", "clicked": 0}]
    test = [
        {"user": "a", "item": "i02", "timestamp": 5},
        {"user": "b", "item": "i01", "timestamp": 5},
        {"user": "c", "item": "i01", "timestamp": 5},
        {"user": "c", "item": "gone", "timestamp": 6},
    ]
    (batch,) = world.make_queries(train, test)

    assert batch.known_user.tolist() == [True, True, False, False]  # a row is enough, clicked or not
    assert batch.new_item.tolist() == [True, False, False, True]
    assert batch.target_rows.tolist() == [2, 1, 1, -1]
    assert PopularityRanker(np.arange(world.num_items)).rank(batch)[-1] == np.inf
    assert RandomRanker().measure(batch)["recall_100"].tolist() == [1, 1, 1, 0]


def test_history_is_what_the_example_holds(world):
    test = [
        {"item": "i05", "timestamp": 5, "history": ["i03", "i01", "i03", "gone"]},
        {"item": "i06", "timestamp": 5},
    ]
    (batch,) = world.make_queries((), test)
    assert batch.history.shape == (2, world.num_items)
    assert [np.flatnonzero(row).tolist() for row in batch.history.toarray()] == [[1, 3], []]
    assert batch.history.max() == 1


def test_a_split_without_clicks_is_refused(world):
    with pytest.raises(ValueError, match="test split holds no clicked row"):
        world.make_queries([{"item": "i01"}], [{"item": "i02", "clicked": 0}])

import numpy as np
import pytest

from components.retrieval_evaluator import metrics
from components.retrieval_evaluator.metrics import (
    activity_slices,
    bootstrap_interval,
    bootstrap_lower_bound,
    compute_random_metrics,
    compute_row_metrics,
    per_user,
)


def test_random_with_fewer_items_than_the_depth():
    metrics = compute_random_metrics(np.array([1, 4]))
    assert metrics["recall_10"].tolist() == [1.0, 1.0]
    assert metrics["ndcg_10"][0] == pytest.approx(1.0)
    assert metrics["ndcg_10"][1] == pytest.approx(np.mean(1 / np.log2([2, 3, 4, 5])))


def test_metrics_by_hand():
    metrics = compute_row_metrics(np.array([0, 2, 9, 10, 499, np.inf]))
    assert metrics["recall_10"].tolist() == [1, 1, 1, 0, 0, 0]
    assert metrics["recall_100"].tolist() == [1, 1, 1, 1, 0, 0]
    assert metrics["recall_500"].tolist() == [1, 1, 1, 1, 1, 0]
    # 1 / log2(rank + 2): log2 of 2, 4 and 11
    assert metrics["ndcg_10"] == pytest.approx([1, 0.5, 1 / 3.4594316, 0, 0, 0])
    assert metrics["mrr"] == pytest.approx([1, 1 / 3, 0.1, 1 / 11, 1 / 500, 0])


def test_a_user_counts_once():
    users = np.array(["b", "a", "b", "b"], object)
    table = per_user(users, {"recall_10": np.array([1.0, 0.5, 0.0, 0.5])})
    assert table["recall_10"].to_dict() == {"a": 0.5, "b": 0.5}
    assert table["queries"].to_dict() == {"a": 1, "b": 3}


def test_activity_is_in_deciles():
    slices = activity_slices(np.arange(100))
    assert [np.sum(slices == f"activity_{decile}") for decile in range(1, 11)] == [10] * 10
    assert slices[0] == "activity_1"
    assert slices[-1] == "activity_10"


def test_bootstrap_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    below = inside = 0
    for trial in range(200):
        sample = rng.normal(0.3, 1.0, 60)
        low, high = bootstrap_interval(sample, 0.9, 300, seed=trial)
        mean, bound = bootstrap_lower_bound(sample, 0.95, 300, seed=trial)
        assert mean == sample.mean()
        assert bound == pytest.approx(low)  # 5% on one side is 90% on two
        inside += low <= 0.3 <= high
        below += bound <= 0.3
    assert 0.83 <= inside / 200 <= 0.96
    assert 0.89 <= below / 200 <= 0.99


def test_bootstrap_of_a_constant_is_that_constant():
    assert bootstrap_interval(np.full(7, 0.25), 0.95, 50) == (0.25, 0.25)


def test_bootstrap_equals_a_loop_over_the_samples(monkeypatch):
    difference = np.random.default_rng(1).normal(size=61)
    rng = np.random.default_rng(5)
    means = [rng.choice(difference, 61).mean() for _ in range(40)]
    expected = (difference.mean(), np.quantile(means, 0.1))

    for values_per_block in (1, 61 * 7, 1 << 20):  # a sample at a time, seven, and all at once
        monkeypatch.setattr(metrics, "_VALUES_PER_BLOCK", values_per_block)
        assert bootstrap_lower_bound(difference, 0.9, 40, seed=5) == expected


def test_bootstrap_is_over_users_and_not_over_their_queries():
    # Ten users, of whom one asks 991 of the 1000 queries; the others' answers are half right.
    users = np.array([b"a"] * 991 + [b"%d" % number for number in range(9)], object)
    hits = np.array([1.0] * 991 + [0, 1, 0, 1, 0, 1, 0, 1, 0])
    by_user = per_user(users, {"recall_10": hits})["recall_10"].to_numpy()

    mean, bound = bootstrap_lower_bound(by_user, 0.95, 4000)

    assert mean == 0.5  # not 0.995
    # Hits of ten draws of one in two: 2 or fewer with 5.5%, 1 or fewer with 1.1%.
    assert 0.2 <= bound <= 0.3

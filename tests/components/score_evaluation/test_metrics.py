import numpy as np
import pytest

from components.score_evaluation.metrics import (
    bootstrap_auc_difference,
    compute_auc,
    compute_gauc,
    compute_user_aucs,
)

NAN = float("nan")


def make_rows(num_rows=600, num_users=40, signal=1.0, seed=0, ties=20):
    """Users, labels, and scores that tie often."""
    rng = np.random.default_rng(seed)
    users = np.concatenate([np.arange(num_users), rng.integers(num_users, size=num_rows - num_users)])
    labels = rng.random(num_rows) < 0.3
    scores = np.round((rng.normal(size=num_rows) + signal * labels) * ties) / ties
    return users, labels.astype(np.float32), scores.astype(np.float32)


def count_pairs(labels, scores, weights=None):
    """The definition: the share of pairs of a clicked and another row that are in order, ties a half."""
    weights = np.ones(len(labels)) if weights is None else weights
    positive = labels > 0
    gap = scores[positive][:, np.newaxis] - scores[~positive]
    pairs = np.outer(weights[positive], weights[~positive])
    return ((gap > 0) * pairs + (gap == 0) * pairs / 2).sum() / pairs.sum()


@pytest.mark.parametrize(
    ("labels", "scores", "auc"),
    [
        ([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], 0.75),  # three of the four pairs are in order
        ([1, 0], [0.5, 0.5], 0.5),
        ([0, 1, 0, 1], [0.2, 0.2, 0.2, 0.2], 0.5),
        ([1, 0, 0], [0.2, 0.2, 0.1], 0.75),  # one pair in order, one tie
        ([1, 1, 0], [0.1, 0.2, 0.9], 0.0),
        ([1, 1], [0.1, 0.2], NAN),
        ([0, 0], [0.1, 0.2], NAN),
        ([0, 1], [NAN, 0.2], NAN),
    ],
)
def test_auc_by_hand(labels, scores, auc):
    assert compute_auc(np.array(labels), np.array(scores)) == pytest.approx(auc, nan_ok=True)


def test_auc_is_the_share_of_pairs_in_order():
    _, labels, scores = make_rows()
    assert compute_auc(labels, scores) == pytest.approx(count_pairs(labels, scores))
    weights = np.random.default_rng(1).random(len(labels))
    assert compute_auc(labels, scores, weights) == pytest.approx(count_pairs(labels, scores, weights))


def test_a_weight_is_a_repetition():
    _, labels, scores = make_rows(100, 10)
    times = np.random.default_rng(0).integers(4, size=100)
    repeated = compute_auc(np.repeat(labels, times), np.repeat(scores, times))
    assert compute_auc(labels, scores, times) == pytest.approx(repeated)


def test_gauc_by_hand():
    """User 0: 3 of 4 pairs; user 1: no click; user 2: one of two pairs, and a tie; user 3: clicks alone."""
    users = np.array([0, 1, 2, 0, 2, 3, 0, 2, 0])
    labels = np.array([0, 0, 1, 0, 0, 1, 1, 0, 1])
    scores = np.array([0.1, 0.9, 0.5, 0.4, 0.5, 0.3, 0.35, 0.2, 0.8])
    gauc = compute_gauc(users, labels, scores)
    # Users 0 and 2 have 4 and 3 rows, and .75 each.
    assert gauc.value == pytest.approx((4 * 0.75 + 3 * 0.75) / 7)
    assert (gauc.kept_users, gauc.kept_rows) == (2 / 4, 7 / 9)
    aucs, rows = compute_user_aucs(users, labels, scores)
    assert aucs == pytest.approx([0.75, NAN, 0.75, NAN], nan_ok=True) and rows.tolist() == [4, 1, 3, 1]


def test_gauc_weighs_users_by_their_rows():
    users, labels, scores = make_rows()
    total, weight = 0.0, 0
    for user in np.unique(users):
        mine = users == user
        if 0 < labels[mine].sum() < mine.sum():
            total += mine.sum() * count_pairs(labels[mine], scores[mine])
            weight += mine.sum()
    assert compute_gauc(users, labels, scores).value == pytest.approx(total / weight)


def test_gauc_without_a_user_of_both_classes_is_not_defined():
    gauc = compute_gauc(np.array([0, 0, 1]), np.array([1, 1, 0]), np.array([0.1, 0.2, 0.3]))
    assert np.isnan(gauc.value) and (gauc.kept_users, gauc.kept_rows) == (0.0, 0.0)


def test_a_nan_score_spoils_gauc_and_every_difference():
    users, labels, scores = make_rows()
    spoiled = scores.copy()
    spoiled[np.flatnonzero(labels)[0]] = NAN
    assert np.isnan(compute_gauc(users, labels, spoiled).value)
    for pair in ((scores, spoiled), (spoiled, scores)):
        assert np.isnan(bootstrap_auc_difference(users, labels, *pair, 0.95, 20).lower_bound)


def test_a_resample_weighs_users_as_if_their_rows_were_repeated():
    """Against a bootstrap that copies rows, drawn by the same generator."""
    users, labels, a = make_rows(signal=1.0)
    b = make_rows(signal=0.5, seed=1)[2]
    rng = np.random.default_rng(3)
    expected = []
    for _ in range(50):
        times = np.bincount(rng.integers(40, size=40), minlength=40)[users]
        rows = np.repeat(np.arange(len(users)), times)
        expected.append(compute_auc(labels[rows], a[rows]) - compute_auc(labels[rows], b[rows]))
    found = bootstrap_auc_difference(users, labels, a, b, 0.9, 50, seed=3)
    assert found.value == pytest.approx(compute_auc(labels, a) - compute_auc(labels, b))
    assert found.lower_bound == pytest.approx(np.quantile(expected, 0.1))
    assert found.interval == pytest.approx(tuple(np.quantile(expected, [0.05, 0.95])))


def test_equal_scores_differ_by_nothing():
    users, labels, scores = make_rows()
    found = bootstrap_auc_difference(users, labels, scores, 2 * scores, 0.95, 50)
    assert (found.value, found.lower_bound, found.interval) == (0.0, 0.0, (0.0, 0.0))


def test_constant_scores_are_the_distance_to_a_half():
    users, labels, scores = make_rows()
    found = bootstrap_auc_difference(users, labels, scores, np.zeros(len(users)), 0.95, 50)
    assert found.value == pytest.approx(compute_auc(labels, scores) - 0.5)


def test_a_resample_of_one_class_is_left_out():
    """Two users, of whom one has all clicks: half of the resamples have one class."""
    users, labels = np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0])
    found = bootstrap_auc_difference(users, labels, np.array([2.0, 2, 1, 1]), np.zeros(4), 0.95, 50)
    assert found.lower_bound == 0.5


def test_the_lower_bound_covers_as_often_as_it_says():
    """Known answer: of two equally good models, about 95 % of the lower bounds lie below 0."""
    rng = np.random.default_rng(0)
    below = []
    for seed in range(200):
        users = np.repeat(np.arange(60), 8)
        labels = rng.random(480) < 0.4
        # Of each model, the rows of a user are off alike.
        scores = [labels + rng.normal(size=60)[users] + rng.normal(size=480) for _ in range(2)]
        found = bootstrap_auc_difference(users, labels, *scores, 0.95, 100, seed)
        below.append(found.lower_bound < 0)
    assert 0.88 < np.mean(below) < 0.99

"""The losses on the order of a request against numbers worked out by hand."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from trainers.losses.distillation_ranking import ListwiseRanking, PairwiseRanking, PointwiseRanking

LN3 = np.log(3.0)


def _softplus(x):
    return np.log1p(np.exp(x))


def _requests(signals):
    """(student, teacher) logits of task 0 of each request, without what the mask leaves out."""
    kept = signals.soft_mask.numpy()[:, 0] > 0
    for request in np.unique(signals.request):
        rows = kept & (signals.request.numpy() == request)
        if rows.any():
            yield signals.student_logits.numpy()[rows, 0], signals.teacher_logits.numpy()[rows, 0]


def _pairwise(signals):
    losses = [
        _softplus(s[j] - s[i])
        for s, t in _requests(signals)
        for i, j in itertools.permutations(range(len(t)), 2)
        if t[i] > t[j]
    ]
    return np.mean(losses)


def _listwise(signals, temperature):
    losses = []
    for s, t in _requests(signals):
        p, q = (np.exp(x / temperature) / np.sum(np.exp(x / temperature)) for x in (t, s))
        if len(t) > 1:
            losses.append(temperature**2 * np.sum(p * np.log(p / q)))
    return np.mean(losses)


def _pointwise(signals, top_k):
    losses = []
    for s, t in _requests(signals):
        rank = np.array([np.sum(t > x) for x in t])
        positive = rank < top_k
        weight = np.where(positive, 1 / np.log2(rank + 2), 0)
        weight = np.where(positive, weight * positive.sum() / weight.sum(), 1)
        if not positive.all():
            losses.extend(weight * np.where(positive, _softplus(-s), _softplus(s)))
    return np.mean(losses)


def _gradient(loss, make_signals, student, teacher, **given):
    student = tf.Variable(np.reshape(student, [-1, 1]), dtype=tf.float32)
    with tf.GradientTape() as tape:
        value = loss(make_signals(tf.convert_to_tensor(student), teacher, **given))
    return tape.gradient(value, student).numpy()[:, 0]


def test_pairwise_matches_the_numbers_of_three_pairs(make_signals):
    # Request 0: the teacher orders b > a > c; scores a = 0, b = ln 3, c = 0:
    # b-a and b-c: -ln σ(ln 3) = ln 4/3 = .287682 each, a-c: ln 2 = .693147. Request 7: equals, no pair.
    signals = make_signals([0.0, LN3, 0.0, 1.0, 2.0], [1.0, 2.0, -1.0, 5.0, 5.0], request=[0, 0, 0, 7, 7])
    np.testing.assert_allclose(PairwiseRanking()(signals), (2 * 0.287682 + 0.693147) / 3, rtol=1e-5)


def test_the_gradient_of_a_pair_pulls_it_apart(make_signals):
    # ∂ -ln σ(s_0 - s_1) = σ(s_1 - s_0) = σ(-ln 3) = 1/4, down on the better row, up on the other.
    gradient = _gradient(PairwiseRanking(), make_signals, [LN3, 0.0], [1.0, 0.0])
    np.testing.assert_allclose(gradient, [-0.25, 0.25], rtol=1e-5)


def test_listwise_matches_the_numbers_of_two_requests(make_signals):
    # Request 0: teacher (3/4, 1/4), student (1/2, 1/2): 3/4 ln(3/2) + 1/4 ln(1/2) = .130812;
    # request 1: equal but for a shift: 0; request 2: one row, not counted.
    signals = make_signals([0.0, 0.0, 1.0, 2.0, 3.0], [LN3, 0.0, 4.0, 5.0, -9.0], request=[0, 0, 1, 1, 2])
    np.testing.assert_allclose(ListwiseRanking()(signals), 0.130812 / 2, rtol=1e-5)


def test_the_temperature_of_a_list_divides_logits(make_signals):
    # At T = 2 a teacher's 2 ln 3 is the (3/4, 1/4) of above, its weight T² = 4.
    np.testing.assert_allclose(
        ListwiseRanking(2.0)(make_signals([0.0, 0.0], [2 * LN3, 0.0])), 4 * 0.130812, rtol=1e-5
    )


def test_the_gradient_of_a_list_is_the_difference_of_probabilities(make_signals):
    # T (softmax(s/T) - softmax(t/T)) / requests, here 2 (1/2 - 3/4) and 2 (1/2 - 1/4).
    gradient = _gradient(ListwiseRanking(2.0), make_signals, [0.0, 0.0], [2 * LN3, 0.0])
    np.testing.assert_allclose(gradient, [-0.5, 0.5], rtol=1e-5)


def test_a_list_of_extreme_logits_stays_finite(make_signals):
    loss = ListwiseRanking()(make_signals([1000.0, -1000.0], [-500.0, 500.0]))
    np.testing.assert_allclose(loss, 2000.0, rtol=1e-5)  # -ln q of the teacher's sure choice


def test_pointwise_matches_the_numbers_of_four_rows(make_signals):
    # Ranks 1, 3, 0, 2; best two positive: discounts 1/log2(3) = .630930 and 1, scaled by 2 / 1.630930:
    # weights .773705 and 1.226295. Scores 0, ln 3, ln 3, 0: ln 2, -ln 1/4, -ln 3/4, ln 2.
    signals = make_signals([0.0, LN3, LN3, 0.0], [2.0, 0.0, 3.0, 1.0])
    expected = (0.773705 * 0.693147 + 1.386294 + 1.226295 * 0.287682 + 0.693147) / 4
    np.testing.assert_allclose(PointwiseRanking(top_k=2)(signals), expected, rtol=1e-5)


def test_equals_of_the_teacher_are_positives_together(make_signals):
    # Two share rank 0, weight 1 each; the third has rank 2.
    signals = make_signals([LN3, 0.0, 0.0], [1.0, 1.0, 0.0])
    expected = (0.287682 + 0.693147 + 0.693147) / 3
    np.testing.assert_allclose(PointwiseRanking(top_k=1)(signals), expected, rtol=1e-5)


def test_a_request_without_negatives_is_left_out(make_signals):
    alone = make_signals([LN3, 0.0], [1.0, 0.0])
    joined = make_signals([LN3, 0.0, 4.0, 5.0, 6.0], [1.0, 0.0, 7.0, 3.0, 3.0], request=[0, 0, 1, 2, 2])
    np.testing.assert_allclose(PointwiseRanking(1)(joined), PointwiseRanking(1)(alone), rtol=1e-6)


@pytest.mark.parametrize(
    ("loss", "reference"),
    [
        (PairwiseRanking(), _pairwise),
        (ListwiseRanking(), lambda signals: _listwise(signals, 1.0)),
        (ListwiseRanking(3.0), lambda signals: _listwise(signals, 3.0)),
        (PointwiseRanking(1), lambda signals: _pointwise(signals, 1)),
        (PointwiseRanking(3), lambda signals: _pointwise(signals, 3)),
    ],
)
@pytest.mark.parametrize("rounding", [1, 8])  # one decimal makes equals
def test_forms_match_the_equations_request_by_request(make_random_signals, loss, reference, rounding):
    signals = make_random_signals([5, 1, 12, 2, 7, 1, 30])
    rounded = tf.constant(np.round(signals.teacher_logits.numpy(), rounding))
    object.__setattr__(signals, "teacher_logits", rounded)
    np.testing.assert_allclose(loss(signals), reference(signals), rtol=1e-5)


@pytest.mark.parametrize("loss", [PairwiseRanking(), ListwiseRanking(), PointwiseRanking(1)])
def test_requests_of_one_row_or_of_equals_say_nothing(make_signals, loss):
    student, teacher = [1.0, -2.0, 3.0, 0.5], [4.0, 5.0, 6.0, 7.0]
    assert loss(make_signals(student, teacher, request=[0, 1, 2, 3])) == 0
    assert not np.any(_gradient(loss, make_signals, student, teacher, request=[0, 1, 2, 3]))
    if not isinstance(loss, ListwiseRanking):  # to which equals say that all are as likely
        assert loss(make_signals(student, [1.0] * 4)) == 0


@pytest.mark.parametrize("loss", [PairwiseRanking(), ListwiseRanking(2.0), PointwiseRanking(2)])
def test_descent_finds_the_teachers_order(make_signals, loss):
    teacher = np.array([0.5, -1.0, 2.0, 0.0, 1.0, 3.0])
    request = [0, 0, 0, 1, 1, 1]
    student = tf.Variable(-teacher[:, np.newaxis], dtype=tf.float32)
    for _ in range(30):
        with tf.GradientTape() as tape:
            value = loss(make_signals(tf.convert_to_tensor(student), teacher, request=request))
        student.assign_sub(4.0 * tape.gradient(value, student))
    best = np.reshape(student, [2, 3]).argsort(axis=1)
    if isinstance(loss, PointwiseRanking):  # the best two, in whatever order, above the rest
        assert best[:, 0].tolist() == [1, 0]
    else:
        np.testing.assert_array_equal(best, teacher.reshape(2, 3).argsort(axis=1))


def test_a_long_request_does_not_make_short_ones_expensive(make_signals):
    # 2,000 requests of one row beside one of 400: padded to [2001, 400, 400], 320 million pairs.
    size = 2400
    request = np.concatenate([np.zeros(400), np.arange(1, 2001)])
    random = np.random.default_rng(0)
    signals = make_signals(random.normal(size=size), random.normal(size=size), request=request.astype(int))
    np.testing.assert_allclose(PairwiseRanking()(signals), _pairwise(signals), rtol=1e-4)

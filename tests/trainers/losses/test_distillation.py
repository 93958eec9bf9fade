"""The losses on single logits against numbers worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf

from trainers.losses.distillation import (
    LogitsDistillation,
    MultiTargetKL,
    RocketLaunching,
    compute_distillation_weight,
    compute_hard_loss,
)

LN3 = np.log(3.0)  # σ(ln 3) = 3/4


def _sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def _kl(teacher, student):
    p, q = _sigmoid(teacher), _sigmoid(student)
    return p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))


def _gradient(loss, make_signals, student, teacher, **given):
    student = tf.Variable(np.reshape(student, [len(student), -1]), dtype=tf.float32)
    with tf.GradientTape() as tape:
        value = loss(make_signals(tf.convert_to_tensor(student), teacher, **given))
    return tape.gradient(value, student).numpy()


def test_logits_match_the_numbers_of_two_rows(make_signals):
    # Row 1: p = 3/4 against q = 1/2: 3/4 ln(3/2) + 1/4 ln(1/2) = .304099 - .173287 = .130812; row 2: 0.
    loss = LogitsDistillation()(make_signals([0.0, 1.0], [LN3, 1.0]))
    np.testing.assert_allclose(loss, 0.130812 / 2, rtol=1e-5)


def test_the_temperature_divides_logits_and_not_probabilities(make_signals):
    # At T = 2 a teacher's 2 ln 3 is a softened 3/4, its weight T² = 4: 4 * .130812.
    loss = LogitsDistillation(temperature=2.0)(make_signals([0.0], [2 * LN3]))
    np.testing.assert_allclose(loss, 4 * 0.130812, rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_logits_match_the_equation_with_masks(make_random_signals, temperature):
    signals = make_random_signals([40, 24])
    kl = temperature**2 * _kl(signals.teacher_logits / temperature, signals.student_logits / temperature)
    mask = signals.soft_mask.numpy()
    expected = np.sum(np.sum(kl * mask, axis=0) / np.sum(mask, axis=0))
    np.testing.assert_allclose(LogitsDistillation(temperature)(signals), expected, rtol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_gradient_of_logits_is_the_difference_of_probabilities_times_the_temperature(
    make_signals, temperature
):
    student, teacher = np.array([0.3, -2.0, 1.0]), np.array([1.0, 0.5, 9.0])
    gradient = _gradient(
        LogitsDistillation(temperature), make_signals, student, teacher, soft_mask=[[1], [1], [0]]
    )
    difference = _sigmoid(student / temperature) - _sigmoid(teacher / temperature)
    expected = temperature * difference / 2  # two rows count
    expected[2] = 0
    np.testing.assert_allclose(gradient[:, 0], expected, rtol=1e-5)


def test_a_high_temperature_compares_logits(make_signals):
    # T² KL -> (s - t)² p (1 - p) / 2 with p = 1/2 for T -> ∞: (3² + 1²) / 8 / 2.
    loss = LogitsDistillation(temperature=100.0)(make_signals([2.0, 0.0], [-1.0, 1.0]))
    np.testing.assert_allclose(loss, 10 / 16, rtol=5e-3)


def test_extreme_logits_stay_finite(make_signals):
    # p = 1 - e^-80, so KL = -ln σ(-80) = 80, up to e^-80.
    np.testing.assert_allclose(LogitsDistillation()(make_signals([-80.0], [80.0])), 80.0, rtol=1e-6)
    assert np.isfinite(LogitsDistillation(0.01)(make_signals([-80.0], [80.0])))


@pytest.mark.parametrize(
    "loss",
    [LogitsDistillation(), LogitsDistillation(3.0), MultiTargetKL([0.5]), RocketLaunching()],
    ids=lambda loss: loss.name,
)
@pytest.mark.parametrize("teacher", [-3.0, -0.2, 1.5])
def test_the_minimum_is_at_the_teachers_logit_and_is_zero(make_signals, loss, teacher):
    # `KLDivergence` over single probabilities, p ln(p/q), is negative for q > p and least at q = 1, whatever
    # p; dividing probabilities by T moves the minimum too.
    students = np.linspace(-6.0, 6.0, 121)
    values = np.array([loss(make_signals([s], [teacher])) for s in students])
    assert np.all(values >= -1e-6)
    np.testing.assert_allclose(students[np.argmin(values)], teacher, atol=1e-6)
    np.testing.assert_allclose(loss(make_signals([teacher], [teacher])), 0.0, atol=1e-6)


def test_descent_on_logits_ends_at_the_teachers_logits(make_signals):
    teacher = np.array([-2.0, 0.5, 1.0])
    student = tf.Variable(tf.fill([3, 1], 4.0))
    for _ in range(60):
        with tf.GradientTape() as tape:
            value = LogitsDistillation(2.0)(make_signals(tf.convert_to_tensor(student), teacher))
        student.assign_sub(8.0 * tape.gradient(value, student))
    np.testing.assert_allclose(student[:, 0], teacher, atol=0.01)


def test_tasks_have_their_own_weights_and_means(make_signals):
    signals = make_signals([[0.0, 0.0], [0.0, 0.0]], [[LN3, LN3], [0.0, np.nan]], soft_mask=[[1, 1], [1, 0]])
    # Task 0: (.130812 + 0) / 2 rows; task 1: .130812 / 1 row.
    np.testing.assert_allclose(
        MultiTargetKL([0.5, 0.25])(signals), 0.5 * 0.065406 + 0.25 * 0.130812, rtol=1e-5
    )


def test_rocket_launching_is_the_squared_difference_of_logits(make_signals):
    # Task 0: (1² + 3²) / 2 = 5; task 1: 2² / 1, its other row masked.
    student, teacher = [[1.0, 2.0], [0.0, 0.0]], [[2.0, 4.0], [-3.0, np.nan]]
    mask = [[1, 1], [1, 0]]
    np.testing.assert_allclose(RocketLaunching()(make_signals(student, teacher, soft_mask=mask)), 9.0)
    gradient = _gradient(RocketLaunching(), make_signals, student, teacher, soft_mask=mask)
    np.testing.assert_allclose(gradient, [[-1.0, -4.0], [3.0, 0.0]])  # 2 (s - t) / rows


def test_the_hard_loss_counts_each_task_where_it_has_labels():
    logits = tf.Variable([[LN3, LN3], [0.0, 5.0]], dtype=tf.float32)
    labels = tf.constant([[1.0, 0.0], [0.0, np.nan]])
    mask = tf.constant([[1.0, 1.0], [1.0, 0.0]])
    with tf.GradientTape() as tape:
        loss = compute_hard_loss(logits, labels, mask, [1.0, 0.5])
    # Task 0: (-ln 3/4 - ln 1/2) / 2 = (.287682 + .693147) / 2; task 1: -ln 1/4 = 1.386294, its one label.
    np.testing.assert_allclose(loss, 0.980829 / 2 + 0.5 * 1.386294, rtol=1e-5)
    # w (σ(z) - y) / labels
    np.testing.assert_allclose(tape.gradient(loss, logits), [[-0.125, 0.375], [0.25, 0.0]], rtol=1e-5)


def test_the_hard_loss_takes_weights_that_change_by_the_step():
    @tf.function
    def in_graph(weight):
        return compute_hard_loss(tf.zeros([1, 2]), tf.zeros([1, 2]), tf.ones([1, 2]), [1.0 - weight, 1.0])

    np.testing.assert_allclose(in_graph(tf.constant(0.25)), 1.75 * np.log(2.0), rtol=1e-6)


def test_a_task_without_labels_adds_nothing():
    logits = tf.Variable([[1.0], [2.0]])
    with tf.GradientTape() as tape:
        loss = compute_hard_loss(logits, tf.fill([2, 1], np.nan), tf.zeros([2, 1]), [1.0])
    assert loss == 0
    np.testing.assert_array_equal(tape.gradient(loss, logits), [[0.0], [0.0]])


def test_one_weight_per_task(make_signals):
    with pytest.raises(ValueError, match="soft_weights: expected one per task, 2 in all, got 1"):
        MultiTargetKL([0.5]).call(make_signals([[0.0, 0.0]], [[0.0, 0.0]]))
    with pytest.raises(ValueError, match="weights: expected one per task, 1 in all, got 2"):
        compute_hard_loss(tf.zeros([1, 1]), tf.zeros([1, 1]), tf.ones([1, 1]), [1.0, 1.0])


@pytest.mark.parametrize(("step", "expected"), [(0, 0.0), (9, 0.0), (10, 0.5), (11, 0.5)])
def test_the_teacher_is_heard_after_the_warm_up(step, expected):
    assert compute_distillation_weight(step, 10, 0.5) == expected
    assert compute_distillation_weight(tf.constant(step, tf.int64), 10, 0.5) == expected


def test_without_warm_up_the_teacher_is_heard_at_once():
    assert compute_distillation_weight(0, 0, 0.5) == 0.5

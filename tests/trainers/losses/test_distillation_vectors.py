"""The losses on hidden vectors against numbers worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf

from trainers.losses.distillation_vectors import ContrastiveAlignment, HiddenDistillation


@pytest.fixture
def make_hidden(make_signals):
    def make(student, teacher, **given):
        logits = np.zeros([len(teacher), 1])
        return make_signals(logits, logits, student_hidden=student, teacher_hidden=teacher, **given)

    return make


def test_hidden_is_the_mean_squared_difference_where_the_widths_agree(make_hidden):
    loss = HiddenDistillation()
    # Errors (1, 0) and (2, -3): (1 + 4 + 9) / 4 numbers.
    value = loss(make_hidden([[1.0, 0.0], [2.0, 0.0]], [[0.0, 0.0], [0.0, 3.0]]))
    np.testing.assert_allclose(value, 14 / 4)
    assert not loss.trainable_variables


def test_hidden_leaves_out_rows_of_which_the_teacher_says_nothing(make_hidden):
    value = HiddenDistillation()(
        make_hidden([[1.0, 0.0], [2.0, 0.0]], [[0.0, 0.0], [np.nan, 3.0]], soft_mask=[[1], [0]])
    )
    np.testing.assert_allclose(value, 1 / 2)


def test_hidden_projects_where_the_widths_differ(make_hidden):
    loss = HiddenDistillation()
    signals = make_hidden([[1.0, 2.0]], [[0.0, 1.0, 2.0]])
    loss(signals)
    (projection,) = loss.trainable_variables
    assert projection.shape == (2, 3)
    projection.assign([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    with tf.GradientTape() as tape:
        value = loss(signals)  # P h = (1, 4, 0), errors (1, 3, -2): 14 / 3
    np.testing.assert_allclose(value, 14 / 3, rtol=1e-6)
    # h · 2 error / 3
    np.testing.assert_allclose(
        tape.gradient(value, projection), np.outer([1, 2], [2 / 3, 2.0, -4 / 3]), rtol=1e-5
    )


def test_the_projection_learns_a_linear_map(make_hidden):
    random = np.random.default_rng(0)
    student, true_map = random.normal(size=(64, 3)), random.normal(size=(3, 5))
    signals, loss = make_hidden(student, student @ true_map), HiddenDistillation()
    assert loss(signals) > 0.1
    for _ in range(60):
        with tf.GradientTape() as tape:
            value = loss(signals)
        (weights,) = loss.trainable_variables
        weights.assign_sub(2.0 * tape.gradient(value, weights))
    np.testing.assert_allclose(loss.trainable_variables[0], true_map, atol=1e-3)


def test_contrastive_matches_the_numbers_of_two_rows(make_hidden):
    # Unit vectors (1, 0), (0, 1) against (1, 0), (.6, .8); at T = .5 the logits are [2, 1.2] and [0, 1.6]:
    # ln(1 + e^-.8) = .371101 and ln(1 + e^-1.6) = .183901.
    signals = make_hidden([[3.0, 0.0], [0.0, 0.5]], [[2.0, 0.0], [3.0, 4.0]])
    loss = ContrastiveAlignment(temperature=0.5)
    np.testing.assert_allclose(loss(signals), (0.371101 + 0.183901) / 2, rtol=1e-5)
    assert not loss.trainable_variables


def test_contrastive_matches_the_equation_with_a_projection(make_random_signals):
    signals, loss = make_random_signals([20, 12]), ContrastiveAlignment(0.2)
    value = loss(signals)
    (projection,) = loss.trainable_variables
    kept = signals.soft_mask.numpy().max(axis=1) > 0
    assert 0 < kept.sum() < 32
    a, b = signals.student_hidden.numpy()[kept] @ projection.numpy(), signals.teacher_hidden.numpy()[kept]
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    similarity = np.exp(a @ b.T / 0.2)
    expected = -np.mean(np.log(np.diag(similarity) / similarity.sum(axis=1)))
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_contrastive_is_zero_with_nothing_to_contrast_with(make_hidden):
    np.testing.assert_allclose(ContrastiveAlignment()(make_hidden([[1.0, 0.0]], [[0.0, 1.0]])), 0.0)


def test_contrastive_takes_the_first_1024_rows(make_hidden):
    random = np.random.default_rng(0)
    student, teacher = random.normal(size=(2, 1500, 4))
    np.testing.assert_allclose(
        ContrastiveAlignment()(make_hidden(student, teacher)),
        ContrastiveAlignment()(make_hidden(student[:1024], teacher[:1024])),
        rtol=1e-5,
    )


@pytest.mark.parametrize("loss", [HiddenDistillation(), ContrastiveAlignment()])
def test_missing_vectors_are_named(make_signals, loss):
    with pytest.raises(ValueError, match="student_hidden and teacher_hidden are needed"):
        loss.call(make_signals([0.0], [0.0]))

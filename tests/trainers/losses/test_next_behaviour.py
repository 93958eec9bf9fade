"""The auxiliary loss by hand, over pairs of neighbouring events alone."""

import math

import numpy as np
import pytest
import tensorflow as tf

from trainers.losses.next_behaviour import compute_next_behaviour_loss


def log_sigmoid(x):
    return -math.log1p(math.exp(-x))


def test_it_is_the_mean_over_the_pairs_of_events():
    interests = np.array([[[1.0, 2.0], [0.5, -1.0], [3.0, 3.0]], [[1.0, 1.0], [9.0, 9.0], [9.0, 9.0]]])
    events = np.array([[[7.0, 7.0], [1.0, 0.0], [2.0, 1.0]], [[7.0, 7.0], [9.0, 9.0], [9.0, 9.0]]])
    negatives = np.zeros((2, 3, 2, 2))
    negatives[0, 1] = [[0.0, 1.0], [1.0, 1.0]]
    negatives[0, 2] = [[2.0, 0.0], [0.0, -1.0]]
    mask = np.array([[True, True, True], [True, False, False]])  # the second history has no pair
    first = log_sigmoid(1.0) + (log_sigmoid(-2.0) + log_sigmoid(-3.0)) / 2
    second = log_sigmoid(0.0) + (log_sigmoid(-1.0) + log_sigmoid(-1.0)) / 2
    found = compute_next_behaviour_loss(
        *(tf.constant(x, tf.float32) for x in (interests, events, negatives)), tf.constant(mask)
    )
    assert found.numpy() == pytest.approx(-(first + second) / 2, rel=1e-6)


def test_without_a_pair_there_is_nothing_to_learn():
    zeros = tf.ones([2, 1, 3])
    for mask in ([[True], [False]], [[False], [False]]):
        assert (
            compute_next_behaviour_loss(zeros, zeros, tf.ones([2, 1, 4, 3]), tf.constant(mask)).numpy() == 0.0
        )


def test_large_products_stay_finite():
    events = 100.0 * tf.ones([1, 2, 8])
    loss = compute_next_behaviour_loss(
        events, -events, tf.reshape(events, [1, 2, 1, 8]), tf.constant([[True, True]])
    )
    assert loss.numpy() == pytest.approx(2 * 8 * 1e4)


def test_negatives_equal_to_the_events_teach_nothing_of_the_order():
    """The mistake in circulation: positives and negatives the same, the gradient at zero is zero."""
    interests = tf.Variable(tf.zeros([1, 3, 4]))
    events = tf.random.stateless_normal([1, 3, 4], [1, 2])
    mask = tf.ones([1, 3], tf.bool)
    with tf.GradientTape(persistent=True) as tape:
        same = compute_next_behaviour_loss(interests, events, events[:, :, tf.newaxis], mask)
        other = compute_next_behaviour_loss(interests, events, -events[:, :, tf.newaxis], mask)
    assert np.abs(tape.gradient(same, interests)).max() < 1e-7
    assert np.abs(tape.gradient(other, interests)).max() > 0.1

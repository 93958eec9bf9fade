"""Dice: the batch's distribution in training, the moving one otherwise."""

import numpy as np
import tensorflow as tf

from trainers.layers.dice import Dice


def reference(inputs, mean, variance, alpha, epsilon=1e-8):
    share = 1 / (1 + np.exp(-(inputs - mean) / np.sqrt(variance + epsilon)))
    return share * inputs + (1 - share) * alpha * inputs


def make():
    inputs = np.random.default_rng(0).normal(2.0, 3.0, size=(64, 3)).astype(np.float32)
    layer = Dice(momentum=0.5)
    layer.build(inputs.shape)
    layer.trainable_variables[0].assign([-0.5, 0.0, 2.0])
    return layer, inputs


def test_training_bends_at_the_batch_s_mean():
    layer, inputs = make()
    alpha = np.array([-0.5, 0.0, 2.0])
    wanted = reference(inputs.astype(float), inputs.mean(axis=0), inputs.var(axis=0), alpha)
    np.testing.assert_allclose(layer(inputs, training=True), wanted, rtol=1e-4, atol=1e-5)


def test_serving_bends_at_the_moving_mean_and_a_row_is_its_own():
    layer, inputs = make()
    layer(inputs, training=True)
    mean, variance = inputs.mean(axis=0) / 2, inputs.var(axis=0) / 2 + 0.5  # momentum .5, from 0 and 1
    wanted = reference(inputs.astype(float), mean, variance, np.array([-0.5, 0.0, 2.0]))
    np.testing.assert_allclose(layer(inputs), wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer(inputs[:1]), wanted[:1], rtol=1e-4, atol=1e-5)


def test_only_alpha_is_trained():
    layer, _ = make()
    assert [x.shape for x in layer.trainable_variables] == [tf.TensorShape([3])]

"""The moving average of the weights, against the recurrence by hand."""

import numpy as np
import pytest
import tensorflow as tf

from trainers.weight_average import WeightAverage


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.9])
def test_the_average_is_the_recurrence_and_goes_again(momentum):
    model = tf.keras.Sequential([tf.keras.layers.Dense(2, input_shape=(3,))])
    model.compile(tf.keras.optimizers.SGD(0.5), "mse")
    average = WeightAverage(model, momentum)
    expected = [w.copy() for w in model.get_weights()]
    rng = np.random.default_rng(3)
    for step in range(1, 6):
        model.train_on_batch(rng.normal(size=(4, 3)), rng.normal(size=(4, 2)))
        average.update()
        decay = min(momentum, (1 + step) / (10 + step))
        expected = [decay * e + (1 - decay) * w for e, w in zip(expected, model.get_weights(), strict=True)]
    own = model.get_weights()
    with average.applied():
        for value, want in zip(model.get_weights(), expected, strict=True):
            np.testing.assert_allclose(value, want, rtol=1e-5, atol=1e-6)
    for value, want in zip(model.get_weights(), own, strict=True):
        np.testing.assert_array_equal(value, want)
    assert momentum == 0.0 or not np.allclose(own[0], expected[0], atol=1e-3)

"""The moving average of the weights, against the recurrence by hand, and which epoch's is kept."""

import numpy as np
import pytest
import tensorflow as tf

from trainers.weight_average import BestEpoch, DivergenceError, WeightAverage


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


class _Planned(BestEpoch):
    """Its figures are planned, epoch by epoch; the loss is minus the figure."""

    def __init__(self, figures, patience):
        super().__init__(0.0, patience)
        self._figures = iter(figures)

    def _evaluate(self, logs):
        logs["figure"] = next(self._figures)
        return -logs["figure"], logs["figure"]


def _fit(selection, epochs=6):
    """The weight after each epoch, and the figures."""
    model = tf.keras.Sequential([tf.keras.layers.Dense(1, use_bias=False, input_shape=(1,))])
    model.compile(tf.keras.optimizers.SGD(0.1), "mse")
    weights = []
    note = tf.keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: weights.append(model.get_weights()[0]))
    x = np.ones((2, 1), np.float32)
    history = model.fit(x, 5 * x, epochs=epochs, verbose=0, callbacks=[note, selection])
    return weights, history.history["figure"]


@pytest.mark.parametrize(
    ("figures", "patience", "num_epochs", "best"),
    [
        ([-3, -1, -1, -2, 9], 2, 4, 1),  # the first of equals
        ([-3, -4, -2, -5, 9], 1, 2, 0),
        ([1, 2, 3, 4, 5, 6], 1, 6, 5),
    ],
)
def test_the_best_epoch_is_kept_until_patience_ends(figures, patience, num_epochs, best):
    selection = _Planned(figures, patience)
    weights, seen = _fit(selection)
    assert seen == figures[:num_epochs] and selection.best_epoch == best
    np.testing.assert_array_equal(selection.best_weights[0], weights[best])


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_training(loss):
    with pytest.raises(
        DivergenceError, match=r"in epoch 2 the loss is (nan|inf)\. Lower this model's learning_rate"
    ):
        _fit(_Planned([1.0, -loss, 2.0], patience=3))

"""An activation that bends where its inputs' distribution is."""

from typing import Any

import tensorflow as tf


class Dice(tf.keras.layers.Layer):
    """p x + (1 - p) α x, p = σ((x - E[x]) / sqrt(Var[x] + ε)) (Zhou et al. 2018, DIN, 1706.06978, eq. 3).

    α is learned for each unit, from 0. Mean and variance are the batch's in training and moving averages
    otherwise.

    Args:
      momentum: of the moving averages.
      epsilon: ε.
    """

    def __init__(self, momentum: float = 0.99, epsilon: float = 1e-8, **kwargs: Any):
        super().__init__(**kwargs)
        self.momentum = momentum
        self.epsilon = epsilon
        self._normalize = tf.keras.layers.BatchNormalization(
            momentum=momentum, epsilon=epsilon, center=False, scale=False
        )

    def build(self, input_shape: Any) -> None:
        """Keras' hook."""
        self._alpha = self.add_weight(name="alpha", shape=(input_shape[-1],), initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """[..., D] to the same shape."""
        share = tf.sigmoid(self._normalize(inputs, training=training))
        return inputs * (share + (1.0 - share) * self._alpha)

    def get_config(self) -> dict[str, Any]:
        """Keras' hook."""
        return {**super().get_config(), "momentum": self.momentum, "epsilon": self.epsilon}

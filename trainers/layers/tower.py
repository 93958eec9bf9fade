"""The top of a tower."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


class TowerTop(tf.keras.layers.Layer):
    """y = A x + MLP(x), the last layer linear; optionally of unit length.

    The linear path lets an id's embedding through unbent, which is matrix factorisation; the MLP adds
    what features do together. A ReLU at the end would keep inner products from being negative.

    Args:
      hidden_dims: widths of the hidden layers.
      output_dim: length of the vector.
      normalize: whether it is scaled to unit length.
      dropout: share of inputs and hidden units dropped in training.
    """

    def __init__(
        self, hidden_dims: Sequence[int], output_dim: int, normalize: bool, dropout: float, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.hidden_dims = tuple(hidden_dims)
        self.output_dim = output_dim
        self.normalize = normalize
        self.dropout = dropout
        self._dropout = tf.keras.layers.Dropout(dropout)
        self._hidden = [
            tf.keras.layers.Dense(dim, activation="relu", name=f"hidden_{i}")
            for i, dim in enumerate(self.hidden_dims)
        ]
        self._linear = tf.keras.layers.Dense(output_dim, use_bias=False, name="linear")
        self._output = tf.keras.layers.Dense(output_dim, name="output")

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Maps [B, D] to [B, output_dim]."""
        inputs = self._dropout(inputs, training=training)
        hidden = inputs
        for layer in self._hidden:
            hidden = self._dropout(layer(hidden), training=training)
        vectors = self._linear(inputs) + self._output(hidden)
        return tf.math.l2_normalize(vectors, axis=1) if self.normalize else vectors

    def get_config(self) -> dict[str, Any]:
        """Keras' hook."""
        return {
            **super().get_config(),
            "hidden_dims": self.hidden_dims,
            "output_dim": self.output_dim,
            "normalize": self.normalize,
            "dropout": self.dropout,
        }

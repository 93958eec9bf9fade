"""A history of clicks to a fixed number of vectors."""

from typing import Any

import tensorflow as tf

from trainers.layers.masking import masked_softmax


class HistoryPooling(tf.keras.layers.Layer):
    """Attention pooling with learned queries (Yang et al. 2016, arXiv attention networks, eq. 8-10).

    Head h weighs event t by softmax_t( v_h · tanh(W x_t + b) + p_h[events after t] ), so that a head can
    learn to look at the newest event, at the session or at everything. An empty history gives zeros.

    Args:
      num_heads: pooled vectors.
      hidden_dim: width of the scoring layer.
      max_length: longest history; older events share the last position.
    """

    def __init__(self, num_heads: int, hidden_dim: int, max_length: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.hidden_dim = hidden_dim
        self.max_length = max_length
        self._hidden = tf.keras.layers.Dense(hidden_dim, activation="tanh", name="hidden")
        self._score = tf.keras.layers.Dense(num_heads, use_bias=False, name="score")

    def build(self, input_shape: Any) -> None:
        """Keras' hook."""
        # Heads start with decays from flat to steep: told apart from the first step on.
        steps = tf.range(self.max_length, dtype=tf.float32)[:, tf.newaxis]
        decays = tf.linspace(0.0, 1.0, self.num_heads)[tf.newaxis, :]
        initial = -steps * decays
        self._position_bias = self.add_weight(
            name="position_bias",
            shape=(self.max_length, self.num_heads),
            initializer=lambda shape, dtype=None: tf.cast(initial, dtype or tf.float32),
        )
        super().build(input_shape)

    def call(self, events: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Pools a batch of histories.

        Args:
          events: [B, T, D], oldest first.
          mask: bool [B, T] true where there is an event.

        Returns:
          [B, num_heads * D].
        """
        # Counted through the mask, which may have holes.
        events_after = tf.cumsum(tf.cast(mask, tf.int32), axis=1, reverse=True, exclusive=True)  # [B, T]
        position = tf.gather(self._position_bias, tf.clip_by_value(events_after, 0, self.max_length - 1))
        logits = self._score(self._hidden(events)) + position  # [B, T, heads]
        weights = masked_softmax(logits, mask[:, :, tf.newaxis], axis=1)
        pooled = tf.einsum("bth,btd->bhd", weights, events)
        return tf.reshape(pooled, [-1, self.num_heads * events.shape[-1]])

    def get_config(self) -> dict[str, Any]:
        """Keras' hook."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "hidden_dim": self.hidden_dim,
            "max_length": self.max_length,
        }

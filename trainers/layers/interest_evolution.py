"""What of a user's interests leads to a candidate, and how it got there."""

from collections.abc import Sequence
from typing import Any, get_args

import tensorflow as tf

from trainers.layers.forms import AttentionForm, Evolution
from trainers.layers.gated_recurrence import GatedRecurrence
from trainers.layers.history_attention import HistoryAttention


class InterestEvolution(tf.keras.layers.Layer):
    """The interests of each step to the one that a candidate meets (Zhou et al. 2019, DIEN, section 4.3).

    - `gru`: a second GRU, its states pooled by attention; computed once for each request.
    - `aigru`: a GRU over a_t h_t (eq. 11).
    - `agru`, `augru`, `augru_official`: a GRU whose update is weighed by a_t, see `GatedRecurrence`.

    An empty history gives zeros.

    Args:
      units: of the second GRU.
      evolution: see above.
      attention: form of a_t, see `HistoryAttention`.
      attention_dims: of its MLP.
    """

    def __init__(
        self,
        units: int,
        evolution: Evolution,
        attention: AttentionForm,
        attention_dims: Sequence[int] = (80, 40),
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if evolution not in get_args(Evolution):
            raise ValueError(f"evolution {evolution!r}, expected one of {', '.join(get_args(Evolution))}")
        self.units = units
        self.evolution = evolution
        self.attention = attention
        self.attention_dims = tuple(attention_dims)
        self._attention = HistoryAttention(attention, attention_dims, name="attention")
        self._recurrence = GatedRecurrence(
            units, "gru" if evolution == "aigru" else evolution, name="recurrence"
        )

    def call(self, interests: tf.Tensor, query: tf.Tensor, mask: tf.Tensor, request: tf.Tensor) -> tf.Tensor:
        """Follows the interests of each row's history.

        Args:
          interests: [R, T, H] of the requests, oldest first.
          query: [N, D] of the rows.
          mask: bool [R, T], true where there is an event.
          request: int32 [N], each row's request.

        Returns:
          [N, units].
        """
        projected = self._recurrence.project(interests)
        if self.evolution == "gru":
            states = tf.transpose(self._recurrence(projected, mask), [1, 0, 2])
            weights = self._attention(states, query, mask, request)
            return tf.einsum("nt,nth->nh", weights, tf.gather(states, request))
        weights = self._attention(interests, query, mask, request)
        if self.evolution == "aigru":
            weighed = weights[:, :, tf.newaxis] * tf.gather(projected, request)
            return self._recurrence(weighed, tf.gather(mask, request))[-1]
        return self._recurrence(projected, mask, weights, request)[-1]

    def get_config(self) -> dict[str, Any]:
        """Keras' hook."""
        return {
            **super().get_config(),
            "units": self.units,
            "evolution": self.evolution,
            "attention": self.attention,
            "attention_dims": self.attention_dims,
        }

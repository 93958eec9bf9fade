"""What a user's history says of a candidate: DIN's mean and DIEN's evolution."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from trainers.layers.forms import AttentionForm, Evolution
from trainers.layers.gated_recurrence import GatedRecurrence
from trainers.layers.history_attention import HistoryAttention
from trainers.layers.interest_evolution import InterestEvolution
from trainers.losses.next_behaviour import compute_next_behaviour_loss


class PooledInterest(tf.keras.layers.Layer):
    """Σ_t a_t e_t (Zhou et al. 2018, DIN, arXiv 1706.06978, eq. 3), a softmax over the events.

    Args:
      attention: form of a_t, see `HistoryAttention`.
      attention_dims: of its MLP.
    """

    def __init__(self, attention: AttentionForm, attention_dims: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.attention = attention
        self.attention_dims = tuple(attention_dims)
        self._attention = HistoryAttention(attention, attention_dims, name="attention")

    def encode(self, events: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """The events [R, T, E] themselves."""
        return events

    def call(self, events: tf.Tensor, query: tf.Tensor, mask: tf.Tensor, request: tf.Tensor) -> tf.Tensor:
        """[N, E] of the rows; see `HistoryAttention.call`."""
        weights = self._attention(events, query, mask, request)
        return tf.einsum("nt,nte->ne", weights, tf.gather(events, request))

    def get_config(self) -> dict[str, Any]:
        """Keras' hook."""
        return {
            **super().get_config(),
            "attention": self.attention,
            "attention_dims": self.attention_dims,
        }


class EvolvedInterest(tf.keras.layers.Layer):
    """A GRU that extracts the interest of each step, and its evolution (Zhou et al. 2019, DIEN, section 4).

    The auxiliary loss takes the inner product of an interest and an item. Where they are of one length, as in
    the paper, that is all; otherwise one linear map, the same for clicked items and others, makes them so.

    Args:
      units: H, of both recurrences.
      evolution: see `InterestEvolution`.
      attention: form of a_t, see `HistoryAttention`.
      attention_dims: of its MLP.
      auxiliary_weight: α of the auxiliary loss.
    """

    def __init__(
        self,
        units: int,
        evolution: Evolution,
        attention: AttentionForm,
        attention_dims: Sequence[int],
        auxiliary_weight: float,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units = units
        self.evolution = evolution
        self.attention = attention
        self.attention_dims = tuple(attention_dims)
        self.auxiliary_weight = auxiliary_weight
        self._extractor = GatedRecurrence(units, "gru", name="extractor")
        self._evolution = InterestEvolution(units, evolution, attention, attention_dims, name="evolution")
        self._to_interest = tf.keras.layers.Dense(units, use_bias=False, name="to_interest")

    def encode(self, events: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """The interests [R, T, H] after each of the events [R, T, E]; nothing in them is of a candidate."""
        states = self._extractor(self._extractor.project(events), mask)
        return tf.transpose(states, [1, 0, 2])

    def call(self, interests: tf.Tensor, query: tf.Tensor, mask: tf.Tensor, request: tf.Tensor) -> tf.Tensor:
        """[N, H] of the rows; see `InterestEvolution.call`."""
        return self._evolution(interests, query, mask, request)

    def compute_auxiliary_loss(
        self, interests: tf.Tensor, items: tf.Tensor, negatives: tf.Tensor, mask: tf.Tensor
    ) -> tf.Tensor:
        """α times the loss of `compute_next_behaviour_loss`.

        Args:
          interests: [R, T, H].
          items: [R, T, I] embeddings of what was clicked.
          negatives: [R, T, K, I] of what was not.
          mask: bool [R, T].
        """
        if items.shape[-1] != self.units:
            items, negatives = self._to_interest(items), self._to_interest(negatives)
        return self.auxiliary_weight * compute_next_behaviour_loss(interests, items, negatives, mask)

    def get_config(self) -> dict[str, Any]:
        """Keras' hook."""
        return {
            **super().get_config(),
            "units": self.units,
            "evolution": self.evolution,
            "attention": self.attention,
            "attention_dims": self.attention_dims,
            "auxiliary_weight": self.auxiliary_weight,
        }

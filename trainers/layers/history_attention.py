"""How much each event of a history says of a candidate."""

from collections.abc import Sequence
from typing import Any, get_args

import tensorflow as tf

from trainers.layers.forms import AttentionForm
from trainers.layers.masking import masked_softmax


class HistoryAttention(tf.keras.layers.Layer):
    """a_t = softmax over the events of s(h_t, q); zeros for an empty history.

    - `bilinear`: s = h_t W q (Zhou et al. 2019, DIEN, arXiv 1809.03672, eq. 12).
    - `inner_product`: s = <h_t, q>, for vectors of one length.
    - `mlp`: s = MLP([p, h_t, p - h_t, p ∘ h_t]) of p = W q (Zhou et al. 2018, DIN, arXiv 1706.06978, fig. 2).

    A request's rows share its history. The MLP's first layer is linear in p, h and p ∘ h, so what it takes of
    h is computed once for each request, and what it takes of p once for each row.

    Args:
      form: of s.
      hidden_dims: of the MLP; not used by the others.
    """

    def __init__(self, form: AttentionForm, hidden_dims: Sequence[int] = (80, 40), **kwargs: Any):
        super().__init__(**kwargs)
        if form not in get_args(AttentionForm):
            raise ValueError(f"form {form!r}, expected one of {', '.join(get_args(AttentionForm))}")
        self.form = form
        self.hidden_dims = tuple(hidden_dims)
        if form != "mlp":
            return
        first, *others = self.hidden_dims
        self._of_query = tf.keras.layers.Dense(first, name="of_query")
        self._of_event = tf.keras.layers.Dense(first, use_bias=False, name="of_event")
        self._of_product = tf.keras.layers.Dense(first, use_bias=False, name="of_product")
        self._others = [
            tf.keras.layers.Dense(dim, activation="relu", name=f"hidden_{i}")
            for i, dim in enumerate(others, 1)
        ]
        self._score = tf.keras.layers.Dense(1, use_bias=False, name="score")

    def build(self, input_shape: Any) -> None:
        """Keras' hook."""
        units = input_shape[-1]
        if self.form != "inner_product":
            self._to_event = tf.keras.layers.Dense(units, use_bias=False, name="to_event")
        super().build(input_shape)

    def call(self, events: tf.Tensor, query: tf.Tensor, mask: tf.Tensor, request: tf.Tensor) -> tf.Tensor:
        """Weighs the events of each row's history.

        Args:
          events: [R, T, H] of the requests.
          query: [N, D] of the rows.
          mask: bool [R, T], true where there is an event.
          request: int32 [N], each row's request.

        Returns:
          [N, T].

        Raises:
          ValueError: if `inner_product` is given vectors of two lengths.
        """
        if self.form == "inner_product" and events.shape[-1] != query.shape[-1]:
            raise ValueError(
                f"inner_product needs vectors of one length, got {events.shape[-1]} and {query.shape[-1]}; "
                "use bilinear"
            )
        mask = tf.gather(mask, request)
        of_rows = tf.gather(events, request)
        if self.form == "mlp":
            scores = self._score_mlp(events, of_rows, self._to_event(query), request)
        else:
            query = query if self.form == "inner_product" else self._to_event(query)
            scores = tf.einsum("nth,nh->nt", of_rows, query)
        return masked_softmax(scores, mask, axis=1)

    def _score_mlp(
        self, events: tf.Tensor, of_rows: tf.Tensor, query: tf.Tensor, request: tf.Tensor
    ) -> tf.Tensor:
        # [p, h, p - h, p ∘ h] W = p (W1 + W3) + h (W2 - W3) + (p ∘ h) W4: any three matrices are such sums.
        hidden = (
            self._of_query(query)[:, tf.newaxis]
            + tf.gather(self._of_event(events), request)
            + self._of_product(of_rows * query[:, tf.newaxis])
        )
        hidden = tf.nn.relu(hidden)
        for layer in self._others:
            hidden = layer(hidden)
        return self._score(hidden)[:, :, 0]

    def get_config(self) -> dict[str, Any]:
        """Keras' hook."""
        return {**super().get_config(), "form": self.form, "hidden_dims": self.hidden_dims}

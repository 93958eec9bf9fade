"""GRUs over histories, whose update can be weighed by attention; the gradient written out.

A step on a CPU is a dozen small operations, and their number is the time. So inputs are projected for all
steps at once, the forward loop keeps its states alone, and the backward one is a product and a matrix product
a step: all that does not depend on the gradient is computed again from the states, for all steps at once.
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import tensorflow as tf

Update = Literal["gru", "agru", "augru", "augru_official"]


class GatedRecurrence(tf.keras.layers.Layer):
    """h' = (1 - w) ∘ h + w ∘ c, of u = σ(W_u x + b_u + U_u h), r likewise, c = tanh(W_c x + b_c + r ∘ U_c h).

    (Zhou et al. 2019, DIEN, arXiv 1809.03672, eq. 2-5 and 13-15.) What w is, `update` says:

    - `gru`: u.
    - `agru`: a, the step's attention; there is no gate u.
    - `augru`: a u.
    - `augru_official`: 1 - (1 - a)(1 - u), as in the authors' code, which weighs the gate of the old state.

    A step without an event leaves the state as it was.

    Args:
      units: H.
      update: see above.
    """

    def __init__(self, units: int, update: Update, **kwargs: Any):
        super().__init__(**kwargs)
        if update not in get_args(Update):
            raise ValueError(f"update {update!r}, expected one of {', '.join(get_args(Update))}")
        self.units = units
        self.update = update
        self._input = tf.keras.layers.Dense(3 * units, use_bias=False, name="input")

    def build(self, input_shape: Any) -> None:
        """Keras' hook."""
        self._recurrent = self.add_weight(
            name="recurrent", shape=(self.units, 3 * self.units), initializer="orthogonal"
        )
        self._bias = self.add_weight(name="bias", shape=(3 * self.units,), initializer="zeros")
        super().build(input_shape)

    def project(self, inputs: tf.Tensor) -> tf.Tensor:
        """W x [..., T, 3 H] of [..., T, D]: once for all rows that share a history, see `call`."""
        return self._input(inputs)

    def call(self, projected: tf.Tensor, mask: tf.Tensor, attention: tf.Tensor | None = None) -> tf.Tensor:
        """Runs over a batch of histories.

        Args:
          projected: [B, T, 3 H], see `project`.
          mask: bool [B, T], true where there is an event.
          attention: [B, T]; not used by `gru`.

        Returns:
          [B, T, H] the states after each step.
        """
        by_time = tf.transpose(projected + self._bias, [1, 0, 2])
        is_event = tf.cast(tf.transpose(mask), by_time.dtype)[:, :, tf.newaxis]
        weights = is_event if attention is None else tf.transpose(attention)[:, :, tf.newaxis]
        states = _run(by_time, tf.convert_to_tensor(self._recurrent), weights, is_event, self.update)
        return tf.transpose(states, [1, 0, 2])

    def get_config(self) -> dict[str, Any]:
        """Keras' hook."""
        return {**super().get_config(), "units": self.units, "update": self.update}


def _weigh(update: Update, gate: tf.Tensor, attention: tf.Tensor) -> tf.Tensor:
    if update == "gru":
        return gate
    if update == "agru":
        return attention + tf.zeros_like(gate)
    if update == "augru":
        return attention * gate
    return 1.0 - (1.0 - attention) * (1.0 - gate)


def _weigh_derivatives(update: Update, gate: tf.Tensor, attention: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Of w, by the gate and by the attention."""
    if update == "gru":
        return tf.ones_like(gate), tf.zeros_like(gate)
    if update == "agru":
        return tf.zeros_like(gate), tf.ones_like(gate)
    if update == "augru":
        return attention + tf.zeros_like(gate), gate
    return 1.0 - attention + tf.zeros_like(gate), 1.0 - gate


def _run(
    inputs: tf.Tensor, recurrent: tf.Tensor, attention: tf.Tensor, is_event: tf.Tensor, update: Update
) -> tf.Tensor:
    """States [T, B, H] of inputs [T, B, 3 H], U [H, 3 H] and, of each step, attention and mask [T, B, 1]."""

    @tf.custom_gradient
    def run(
        inputs: tf.Tensor, recurrent: tf.Tensor, attention: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]]:
        states = _scan(inputs, recurrent, attention, is_event, update)

        def gradient(d_states: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            before = tf.concat([tf.zeros_like(states[:1]), states[:-1]], axis=0)
            u, r, c, from_state = _gates(inputs, tf.einsum("tbh,hg->tbg", before, recurrent))
            w = is_event * _weigh(update, u, attention)
            by_gate, by_attention = _weigh_derivatives(update, u, attention)
            step = is_event * (c - before)
            by_proposal = w * (1.0 - c * c)
            factors = tf.concat(
                [step * by_gate * u * (1.0 - u), by_proposal * from_state * r * (1.0 - r), by_proposal * r],
                axis=2,
            )
            d_after = _scan_back(d_states, factors, 1.0 - w, recurrent)
            d_gates = tf.tile(d_after, [1, 1, 3]) * factors
            units = tf.shape(states)[2]
            d_inputs = tf.concat([d_gates[:, :, : 2 * units], d_after * by_proposal], axis=2)
            d_recurrent = tf.einsum("tbh,tbg->hg", before, d_gates)
            d_attention = tf.reduce_sum(d_after * step * by_attention, axis=2, keepdims=True)
            return d_inputs, d_recurrent, d_attention

        return states, gradient

    return run(inputs, recurrent, attention)


def _gates(inputs: tf.Tensor, from_state: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """u, r, c and U_c h, of W x + b and U h."""
    units = inputs.shape[-1] // 3
    both = tf.sigmoid(inputs[..., : 2 * units] + from_state[..., : 2 * units])
    u, r = both[..., :units], both[..., units:]
    of_proposal = from_state[..., 2 * units :]
    return u, r, tf.tanh(inputs[..., 2 * units :] + r * of_proposal), of_proposal


def _scan(
    inputs: tf.Tensor, recurrent: tf.Tensor, attention: tf.Tensor, is_event: tf.Tensor, update: Update
) -> tf.Tensor:
    steps = tf.shape(inputs)[0]
    units = recurrent.shape[0]
    arrays = [tf.TensorArray(x.dtype, steps).unstack(x) for x in (inputs, attention, is_event)]
    states = tf.TensorArray(inputs.dtype, steps, element_shape=[None, units])

    def step(t: tf.Tensor, state: tf.Tensor, states: tf.TensorArray) -> tuple[Any, ...]:
        x, a, m = (array.read(t) for array in arrays)
        u, _, c, _ = _gates(x, tf.matmul(state, recurrent))
        state += m * _weigh(update, u, a) * (c - state)
        return t + 1, state, states.write(t, state)

    start = tf.zeros([tf.shape(inputs)[1], units], inputs.dtype)
    _, _, states = tf.while_loop(lambda t, *_: t < steps, step, (0, start, states), maximum_iterations=steps)
    return states.stack()


def _scan_back(d_states: tf.Tensor, factors: tf.Tensor, kept: tf.Tensor, recurrent: tf.Tensor) -> tf.Tensor:
    """The gradient [T, B, H] by each state, what comes back from later steps included."""
    steps = tf.shape(d_states)[0]
    arrays = [tf.TensorArray(x.dtype, steps).unstack(x) for x in (d_states, factors, kept)]
    result = tf.TensorArray(d_states.dtype, steps, element_shape=[None, recurrent.shape[0]])

    def step(t: tf.Tensor, d_before: tf.Tensor, result: tf.TensorArray) -> tuple[Any, ...]:
        d_state, factor, keep = (array.read(t) for array in arrays)
        d_after = d_state + d_before
        d_gates = tf.tile(d_after, [1, 3]) * factor
        d_before = d_after * keep + tf.matmul(d_gates, recurrent, transpose_b=True)
        return t - 1, d_before, result.write(t, d_after)

    _, _, result = tf.while_loop(
        lambda t, *_: t >= 0, step, (steps - 1, tf.zeros_like(d_states[0]), result), maximum_iterations=steps
    )
    return result.stack()

"""GRUs over histories, whose update can be weighed by attention; the gradient written out.

Inputs are projected for all steps at once, and once for all rows that share a history: a step of the loop
gives each row its history's. The loop keeps its states alone: what else the gradient needs of a step is
computed again, while the step's arrays are in the processor's cache, with the operations that TensorFlow has
for the derivatives of σ and tanh.
"""

from collections.abc import Callable
from typing import Any, get_args

import tensorflow as tf

from trainers.layers.forms import Update


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
        """W x [..., T, 3 H] of [..., T, D], see `call`."""
        return self._input(inputs)

    def call(
        self,
        projected: tf.Tensor,
        mask: tf.Tensor,
        attention: tf.Tensor | None = None,
        request: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Runs over a batch of histories.

        Args:
          projected: [R, T, 3 H] of the requests, see `project`.
          mask: bool [R, T], true where there is an event.
          attention: [N, T] of the rows; not used by `gru`.
          request: int32 [N], each row's request; None where each request is a row, N = R.

        Returns:
          [T, N, H] the states after each step; a row's last is its history's.

        Raises:
          ValueError: if an update that is weighed by attention is given none.
        """
        if attention is None and self.update != "gru":
            raise ValueError(f"update {self.update!r} needs attention; only 'gru' does without")
        by_time = tf.transpose(projected + self._bias, [1, 0, 2])
        is_event = tf.cast(tf.transpose(mask), by_time.dtype)[:, :, tf.newaxis]
        if request is not None:
            is_event = tf.gather(is_event, request, axis=1)
        weights = is_event if attention is None else tf.transpose(attention)[:, :, tf.newaxis]
        return _run(by_time, tf.convert_to_tensor(self._recurrent), weights, is_event, request, self.update)

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
    inputs: tf.Tensor,
    recurrent: tf.Tensor,
    attention: tf.Tensor,
    is_event: tf.Tensor,
    request: tf.Tensor | None,
    update: Update,
) -> tf.Tensor:
    """States [T, N, H].

    Args:
      inputs: [T, R, 3 H], with the bias.
      recurrent: U [H, 3 H].
      attention: [T, N, 1].
      is_event: [T, N, 1].
      request: see `GatedRecurrence.call`.
      update: see `GatedRecurrence`.
    """

    @tf.custom_gradient
    def run(
        inputs: tf.Tensor, recurrent: tf.Tensor, attention: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]]:
        states = _scan(inputs, recurrent, attention, is_event, request, update)

        def gradient(d_states: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            before = tf.concat([tf.zeros_like(states[:1]), states[:-1]], axis=0)
            d_inputs, d_from_state, d_attention = _scan_back(
                d_states, before, inputs, recurrent, attention, is_event, request, update
            )
            d_recurrent = tf.einsum("tbh,tbg->hg", before, d_from_state)
            return d_inputs, d_recurrent, d_attention

        return states, gradient

    return run(inputs, recurrent, attention)


def _gates(inputs: tf.Tensor, from_state: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """[u, r], c and U_c h, of W x + b and U h."""
    units = inputs.shape[-1] // 3
    of_gates, of_proposal = tf.split(inputs, [2 * units, units], axis=1)
    gates_from_state, proposal_from_state = tf.split(from_state, [2 * units, units], axis=1)
    gates = tf.sigmoid(of_gates + gates_from_state)
    proposal = tf.tanh(of_proposal + gates[:, units:] * proposal_from_state)
    return gates, proposal, proposal_from_state


def _give_rows(inputs: tf.Tensor, request: tf.Tensor | None) -> tf.Tensor:
    """Of each row [N, D], what is its request's of a step [R, D]."""
    return inputs if request is None else tf.gather(inputs, request)


def _scan(
    inputs: tf.Tensor,
    recurrent: tf.Tensor,
    attention: tf.Tensor,
    is_event: tf.Tensor,
    request: tf.Tensor | None,
    update: Update,
) -> tf.Tensor:
    steps, units = tf.shape(inputs)[0], recurrent.shape[0]
    arrays = [tf.TensorArray(x.dtype, steps).unstack(x) for x in (inputs, attention, is_event)]
    states = tf.TensorArray(inputs.dtype, steps, element_shape=[None, units])

    def step(t: tf.Tensor, state: tf.Tensor, states: tf.TensorArray) -> tuple[Any, ...]:
        x, a, m = (array.read(t) for array in arrays)
        gates, proposal, _ = _gates(_give_rows(x, request), tf.matmul(state, recurrent))
        state += m * _weigh(update, gates[:, :units], a) * (proposal - state)
        return t + 1, state, states.write(t, state)

    start = tf.zeros([tf.shape(is_event)[1], units], inputs.dtype)
    _, _, states = tf.while_loop(lambda t, *_: t < steps, step, (0, start, states), maximum_iterations=steps)
    return states.stack()


def _scan_back(
    d_states: tf.Tensor,
    before: tf.Tensor,
    inputs: tf.Tensor,
    recurrent: tf.Tensor,
    attention: tf.Tensor,
    is_event: tf.Tensor,
    request: tf.Tensor | None,
    update: Update,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The gradients by the inputs [T, R, 3 H], by U h [T, N, 3 H], and by the attention [T, N, 1].

    Args:
      d_states: [T, N, H] by what is returned of each step.
      before: [T, N, H] the states before each step.
      inputs, recurrent, attention, is_event, request, update: see `_run`.
    """
    steps, units = tf.shape(inputs)[0], recurrent.shape[0]
    given = (d_states, before, inputs, attention, is_event)
    arrays = [tf.TensorArray(x.dtype, steps).unstack(x) for x in given]
    results = [
        tf.TensorArray(inputs.dtype, steps, element_shape=[None, width])
        for width in (3 * units, 3 * units, 1)
    ]

    def step(t: tf.Tensor, d_later: tf.Tensor, *results: tf.TensorArray) -> tuple[Any, ...]:
        d_state, state, x, a, m = (array.read(t) for array in arrays)
        gates, c, from_state = _gates(_give_rows(x, request), tf.matmul(state, recurrent))
        u, r = tf.split(gates, 2, axis=1)
        by_gate, by_attention = _weigh_derivatives(update, u, a)
        d_after = d_later + d_state
        d_step = d_after * m * _weigh(update, u, a)
        d_weight = d_after * m * (c - state)
        d_proposal = tf.raw_ops.TanhGrad(y=c, dy=d_step)
        d_both = tf.raw_ops.SigmoidGrad(
            y=gates, dy=tf.concat([d_weight * by_gate, d_proposal * from_state], axis=1)
        )
        d_from_state = tf.concat([d_both, d_proposal * r], axis=1)
        d_input = tf.concat([d_both, d_proposal], axis=1)
        if request is not None:
            d_input = tf.math.unsorted_segment_sum(d_input, request, tf.shape(x)[0])
        found = (
            d_input,
            d_from_state,
            tf.reduce_sum(d_weight * by_attention, axis=1, keepdims=True),
        )
        d_before = d_after - d_step + tf.matmul(d_from_state, recurrent, transpose_b=True)
        return t - 1, d_before, *(array.write(t, x) for array, x in zip(results, found, strict=True))

    start = (steps - 1, tf.zeros_like(d_states[0]), *results)
    _, _, *results = tf.while_loop(lambda t, *_: t >= 0, step, start, maximum_iterations=steps)
    d_inputs, d_from_state, d_attention = (array.stack() for array in results)
    return d_inputs, d_from_state, d_attention

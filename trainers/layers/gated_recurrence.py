"""GRUs over histories, whose update can be weighed by attention; the gradient written out.

Inputs are projected for all steps at once, and once for all rows that share a history: a step of the loop
gives each row its history's. The gates and the proposal go through the loop as arrays of their own, so that
no step cuts or joins any, and what the gradient needs of a step is kept as the step left it; a SavedModel
cannot hold that, so it is written without gradients, see `trainers.saved_models`.
"""

from collections.abc import Callable, Sequence
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
        by_gate = tf.reshape(projected + self._bias, [*tf.unstack(tf.shape(mask)), 3, self.units])
        inputs = tf.unstack(tf.transpose(by_gate, [2, 1, 0, 3]))
        is_event = tf.cast(tf.transpose(mask), projected.dtype)[:, :, tf.newaxis]
        if request is not None:
            is_event = tf.gather(is_event, request, axis=1)
        by_time = None if self.update == "gru" else tf.transpose(attention)[:, :, tf.newaxis]
        weights = _weigh(self.update, is_event, by_time)
        return _run(inputs, tf.split(self._recurrent, 3, axis=1), weights, request)

    def get_config(self) -> dict[str, Any]:
        """Keras' hook."""
        return {**super().get_config(), "units": self.units, "update": self.update}


def _weigh(update: Update, is_event: tf.Tensor, attention: tf.Tensor | None) -> list[tf.Tensor]:
    """s, and o where it is not always 0, of w = s u + o: [T, N, 1]. Without attention w = u."""
    if attention is None:
        return [is_event]
    if update == "agru":
        return [tf.zeros_like(is_event), is_event * attention]
    if update == "augru":
        return [is_event * attention]
    return [is_event * (1.0 - attention), is_event * attention]


def _run(
    inputs: Sequence[tf.Tensor],
    recurrent: Sequence[tf.Tensor],
    weights: Sequence[tf.Tensor],
    request: tf.Tensor | None,
) -> tf.Tensor:
    """States [T, N, H].

    Args:
      inputs: of u, r and c, with the bias, [T, R, H] each.
      recurrent: U of u, r and c, [H, H] each.
      weights: see `_weigh`.
      request: see `GatedRecurrence.call`.
    """

    @tf.custom_gradient
    def run(*given: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], list[tf.Tensor]]]:
        inputs, recurrent, weights = given[:3], given[3:6], given[6:]
        states, kept = _scan(inputs, recurrent, weights, request)

        def gradient(d_states: tf.Tensor) -> list[tf.Tensor]:
            return _scan_back(d_states, kept, inputs, recurrent, weights, request)

        return states, gradient

    return run(*inputs, *recurrent, *weights)


def _scan(
    inputs: Sequence[tf.Tensor],
    recurrent: Sequence[tf.Tensor],
    weights: Sequence[tf.Tensor],
    request: tf.Tensor | None,
) -> tuple[tf.Tensor, list[tf.TensorArray]]:
    """The states [T, N, H]; and of each step the state before it, u, r, c and U_c h, [N, H] each."""
    steps, units = tf.shape(weights[0])[0], inputs[0].shape[-1]
    of_inputs, of_weights = _unstack(inputs), _unstack(weights)

    def step(t: tf.Tensor, state: tf.Tensor, *results: tf.TensorArray) -> tuple[Any, ...]:
        x_u, x_r, x_c = (x if request is None else tf.gather(x, request) for x in _read(of_inputs, t))
        from_u, from_r, from_c = (tf.matmul(state, x) for x in recurrent)
        u, r = tf.sigmoid(x_u + from_u), tf.sigmoid(x_r + from_r)
        c = tf.tanh(x_c + r * from_c)
        after = state + _weight(_read(of_weights, t), u) * (c - state)
        return t + 1, after, *_write(results, t, (after, state, u, r, c, from_c))

    start = tf.zeros([tf.shape(weights[0])[1], units], inputs[0].dtype)
    results = [
        tf.TensorArray(start.dtype, steps, element_shape=[None, units], clear_after_read=False)
        for _ in range(6)
    ]
    _, _, states, *kept = tf.while_loop(
        lambda t, *_: t < steps, step, (0, start, *results), maximum_iterations=steps
    )
    return states.stack(), kept


def _scan_back(
    d_states: tf.Tensor,
    kept: Sequence[tf.TensorArray],
    inputs: Sequence[tf.Tensor],
    recurrent: Sequence[tf.Tensor],
    weights: Sequence[tf.Tensor],
    request: tf.Tensor | None,
) -> list[tf.Tensor]:
    """The gradients by the inputs, the recurrent matrices and the weights.

    Args:
      d_states: [T, N, H] by what is returned of each step.
      kept: see `_scan`.
      inputs, recurrent, weights, request: see `_run`.
    """
    steps, requests, units = tf.shape(d_states)[0], tf.shape(inputs[0])[1], d_states.shape[-1]
    given, of_weights = _unstack([d_states]), _unstack(weights)

    def step(t: tf.Tensor, d_later: tf.Tensor, *results: Any) -> tuple[Any, ...]:
        totals, arrays = results[:3], results[3:]
        [d_state], [state, u, r, c, from_c] = _read(given, t), _read(kept, t)
        w = _read(of_weights, t)
        d_after = d_later + d_state
        d_step = d_after * _weight(w, u)
        d_weight = d_after * (c - state)
        d_c = tf.raw_ops.TanhGrad(y=c, dy=d_step)
        d_u = tf.raw_ops.SigmoidGrad(y=u, dy=d_weight * w[0])
        d_r = tf.raw_ops.SigmoidGrad(y=r, dy=d_c * from_c)
        d_from = (d_u, d_r, d_c * r)
        d_recurrent = [
            total + tf.matmul(state, x, transpose_a=True) for total, x in zip(totals, d_from, strict=True)
        ]
        d_before = tf.add_n(
            [d_after - d_step]
            + [tf.matmul(x, y, transpose_b=True) for x, y in zip(d_from, recurrent, strict=True)]
        )
        d_inputs = [d_u, d_r, d_c]
        if request is not None:
            d_inputs = [tf.math.unsorted_segment_sum(x, request, requests) for x in d_inputs]
        d_w = [tf.reduce_sum(x, axis=1, keepdims=True) for x in (d_weight * u, d_weight)[: len(w)]]
        return t - 1, d_before, *d_recurrent, *_write(arrays, t, [*d_inputs, *d_w])

    results = [
        tf.TensorArray(d_states.dtype, steps, element_shape=[None, width])
        for width in [units] * 3 + [1] * len(weights)
    ]
    start = (steps - 1, tf.zeros_like(d_states[0]), *(tf.zeros_like(x) for x in recurrent), *results)
    _, _, *found = tf.while_loop(lambda t, *_: t >= 0, step, start, maximum_iterations=steps)
    by_step = [array.stack() for array in found[3:]]
    return [*by_step[:3], *found[:3], *by_step[3:]]


def _weight(weights: Sequence[tf.Tensor], gate: tf.Tensor) -> tf.Tensor:
    """w = s u + o, see `_weigh`."""
    return weights[0] * gate if len(weights) == 1 else weights[0] * gate + weights[1]


def _unstack(tensors: Sequence[tf.Tensor]) -> list[tf.TensorArray]:
    return [tf.TensorArray(x.dtype, tf.shape(x)[0]).unstack(x) for x in tensors]


def _read(arrays: Sequence[tf.TensorArray], step: tf.Tensor) -> list[tf.Tensor]:
    return [array.read(step) for array in arrays]


def _write(
    arrays: Sequence[tf.TensorArray], step: tf.Tensor, tensors: Sequence[tf.Tensor]
) -> list[tf.TensorArray]:
    return [array.write(step, x) for array, x in zip(arrays, tensors, strict=True)]

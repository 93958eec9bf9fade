"""GatedRecurrence is DIEN's equations, forward and backward, eager, in a graph and in XLA."""

import numpy as np
import pytest
import tensorflow as tf

from trainers.layers.gated_recurrence import GatedRecurrence

UPDATES = ("gru", "agru", "augru", "augru_official")
UNITS, WIDTH = 5, 4
SHARED = [0, 0, 2, 2, 2, 5]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference(inputs, mask, attention, request, layer):
    """The equations, a row and a step at a time: [T, N, H]."""
    w_input, recurrent, bias = (np.asarray(x, np.float64) for x in weights(layer))
    states = np.zeros((mask.shape[1], len(attention), UNITS))
    for row in range(len(attention)):
        history = row if request is None else request[row]
        h = np.zeros(UNITS)
        for t in range(mask.shape[1]):
            if mask[history, t]:
                x, g = inputs[history, t] @ w_input + bias, h @ recurrent
                u, r = sigmoid(x[:UNITS] + g[:UNITS]), sigmoid(x[UNITS:-UNITS] + g[UNITS:-UNITS])
                c = np.tanh(x[-UNITS:] + r * g[-UNITS:])
                a = attention[row, t]
                w = {"gru": u, "agru": a, "augru": a * u, "augru_official": 1 - (1 - a) * (1 - u)}
                h = (1 - w[layer.update]) * h + w[layer.update] * c
            states[t, row] = h
    return states


def weights(layer):
    by_name = {x.name.split("/")[-1]: x.numpy() for x in layer.trainable_variables}
    return by_name["kernel:0"], by_name["recurrent:0"], by_name["bias:0"]


def make(update, requests=6, request=None, steps=7, seed=0):
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(requests, steps, WIDTH)).astype(np.float32)
    mask = rng.random((requests, steps)) < 0.7
    mask[0] = False  # an empty history
    of_rows = mask if request is None else mask[request]
    attention = (rng.random(of_rows.shape) * of_rows).astype(np.float32)
    layer = GatedRecurrence(UNITS, update)
    layer(layer.project(inputs), mask, attention, request)
    layer.set_weights([rng.normal(size=x.shape) for x in layer.get_weights()])
    return layer, inputs, mask, attention


def assert_close(found, wanted, tolerance=1e-5):
    np.testing.assert_array_less(np.abs(found - wanted), tolerance * np.maximum(1, np.abs(wanted)) + 1e-12)


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
@pytest.mark.parametrize(("requests", "request_"), [(1, None), (6, None), (1, [0] * 4), (6, SHARED)])
def test_states_are_the_reference(update, mode, requests, request_):
    layer, inputs, mask, attention = make(update, requests, request_)

    def run(inputs, mask, attention):
        return layer(layer.project(inputs), mask, attention, request_)

    if mode != "eager":
        run = tf.function(run, jit_compile=mode == "xla")
    found = run(tf.constant(inputs), tf.constant(mask), tf.constant(attention)).numpy()
    assert_close(found, reference(inputs, mask, attention, request_, layer))


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("request_", [None, [0, 1, 1, 2]])
def test_gradients_are_those_of_the_equations_by_differences(update, request_):
    layer, inputs, mask, attention = make(update, 3, request_, steps=5, seed=1)
    target = np.random.default_rng(2).normal(size=(5, len(attention), UNITS))
    x, a = tf.Variable(inputs), tf.Variable(attention)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(layer.project(x), mask, a, request_) * target.astype(np.float32))
    variables = [x, a, *layer.trainable_variables]
    found = tape.gradient(loss, variables, unconnected_gradients="zero")

    def compute():
        states = reference(x.numpy().astype(float), mask, a.numpy().astype(float), request_, layer)
        return np.sum(states * target)

    for variable, gradient in zip(variables, found, strict=True):
        start = variable.numpy()
        slopes = gradient.numpy()
        for place in np.ndindex(start.shape):
            values = []
            for sign in (1, -1):
                changed = start.copy()
                changed[place] += sign * 1e-2
                variable.assign(changed)
                values.append((compute(), changed[place]))
            variable.assign(start)
            slope = (values[0][0] - values[1][0]) / (values[0][1] - values[1][1])
            if variable is a and not (mask if request_ is None else mask[request_])[place]:
                continue
            assert abs(slopes[place] - slope) < 2e-3 * max(1, abs(slope)), (variable.name, place)


def test_a_step_without_an_event_changes_nothing():
    layer, inputs, mask, attention = make("augru_official")
    states = layer(layer.project(inputs), mask, attention).numpy()
    assert not states[:, 0].any()
    others = inputs + 10 * ~mask[:, :, np.newaxis]
    np.testing.assert_array_equal(layer(layer.project(others), mask, attention).numpy(), states)


@pytest.mark.parametrize("update", UPDATES[1:])
def test_a_weighed_update_without_attention_is_refused(update):
    layer, inputs, mask, _ = make(update)
    with pytest.raises(ValueError, match="needs attention"):
        layer(layer.project(inputs), mask)


def test_an_unknown_update_is_refused():
    with pytest.raises(ValueError, match="expected one of gru"):
        GatedRecurrence(3, "lstm")

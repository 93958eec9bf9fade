"""InterestEvolution is DIEN's second layer in all its forms, a row at a time."""

import numpy as np
import pytest
import tensorflow as tf

from trainers.layers.interest_evolution import InterestEvolution

EVOLUTIONS = ("gru", "aigru", "agru", "augru", "augru_official")
UNITS, STEPS = 4, 6


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def recur(inputs, attention, evolution, weights):
    """States of one history without padding; inputs [t, 3 H] projected."""
    h, states = np.zeros(UNITS), []
    for x, a in zip(inputs + weights["recurrence/bias"], attention, strict=True):
        g = h @ weights["recurrence/recurrent"]
        u, r = sigmoid(x[:UNITS] + g[:UNITS]), sigmoid(x[UNITS:-UNITS] + g[UNITS:-UNITS])
        c = np.tanh(x[-UNITS:] + r * g[-UNITS:])
        w = {"gru": u, "aigru": u, "agru": a, "augru": a * u, "augru_official": 1 - (1 - a) * (1 - u)}
        h = (1 - w[evolution]) * h + w[evolution] * c
        states.append(h)
    return np.array(states)


def attend(states, query, weights):
    scores = states @ (query @ weights["to_event/kernel"])
    exponentials = np.exp(scores - scores.max())
    return exponentials / exponentials.sum()


def reference(layer, interests, query, mask, request):
    by_name = {x.name: np.asarray(x.numpy(), np.float64) for x in layer.trainable_variables}
    weights = {"/".join(name.split("/")[-2:]).removesuffix(":0"): x for name, x in by_name.items()}
    found = np.zeros((len(query), UNITS))
    for row, r in enumerate(request):
        history = interests[r][mask[r]].astype(float)
        if not len(history):
            continue
        projected = history @ weights["input/kernel"]
        if layer.evolution == "gru":
            states = recur(projected, np.ones(len(history)), "gru", weights)
            found[row] = attend(states, query[row], weights) @ states
        else:
            attention = attend(history, query[row], weights)
            if layer.evolution == "aigru":
                projected = (attention[:, np.newaxis] * history) @ weights["input/kernel"]
            found[row] = recur(projected, attention, layer.evolution, weights)[-1]
    return found


def make(evolution, lengths=(STEPS, 2, 0)):
    rng = np.random.default_rng(0)
    interests = rng.normal(size=(len(lengths), STEPS, UNITS)).astype(np.float32)
    mask = np.arange(STEPS) < np.array(lengths)[:, np.newaxis]
    request = np.repeat(np.arange(len(lengths), dtype=np.int32), 2)
    query = rng.normal(size=(len(request), 3)).astype(np.float32)
    layer = InterestEvolution(UNITS, evolution, "bilinear")
    layer(interests, query, mask, request)
    layer.set_weights([rng.normal(size=x.shape) for x in layer.get_weights()])
    return layer, interests, query, mask, request


@pytest.mark.parametrize("evolution", EVOLUTIONS)
@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
@pytest.mark.parametrize("lengths", [(STEPS, 2, 0), (3,), (0,)])
def test_the_last_interest_is_the_reference(evolution, mode, lengths):
    layer, *inputs = make(evolution, lengths)
    call = layer if mode == "eager" else tf.function(layer.__call__, jit_compile=mode == "xla")
    found, wanted = call(*map(tf.constant, inputs)).numpy(), reference(layer, *inputs)
    np.testing.assert_array_less(np.abs(found - wanted), 1e-5 * np.maximum(1, np.abs(wanted)))


@pytest.mark.parametrize("evolution", EVOLUTIONS)
def test_what_a_row_gets_does_not_depend_on_the_others(evolution):
    layer, interests, query, mask, request = make(evolution)
    together = layer(interests, query, mask, request).numpy()
    for row, r in enumerate(request):
        alone = layer(
            interests[r : r + 1], query[row : row + 1], mask[r : r + 1], np.zeros(1, np.int32)
        ).numpy()
        np.testing.assert_allclose(alone[0], together[row], rtol=1e-5, atol=1e-6)


def test_an_unknown_evolution_is_refused():
    with pytest.raises(ValueError, match="expected one of gru, aigru"):
        InterestEvolution(4, "lstm", "bilinear")

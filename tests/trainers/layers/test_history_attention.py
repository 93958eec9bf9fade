"""HistoryAttention is a masked softmax of its scores, whatever the form."""

import numpy as np
import pytest
import tensorflow as tf

from trainers.layers.history_attention import HistoryAttention

UNITS, STEPS = 5, 6
FORMS = ("bilinear", "inner_product", "mlp")


def reference(layer, events, query, mask, request):
    """A row and an event at a time; the MLP's first layer as one matrix on [p, h, p - h, p ∘ h]."""
    weights = {x.name: np.asarray(x.numpy(), np.float64) for x in layer.trainable_variables}
    weights = {"/".join(name.split("/")[-2:]).removesuffix(":0"): x for name, x in weights.items()}
    found = np.zeros((len(query), STEPS))
    for row, r in enumerate(request):
        scores = {}
        for t in np.flatnonzero(mask[r]):
            h, q = events[r, t].astype(float), query[row].astype(float)
            p = q if layer.form == "inner_product" else q @ weights["to_event/kernel"]
            if layer.form != "mlp":
                scores[t] = h @ p
                continue
            of_p, of_h = weights["of_query/kernel"], weights["of_event/kernel"]
            # One choice of the four blocks that adds up to the layer's three.
            of_difference = np.full_like(of_p, 0.3)
            matrix = np.concatenate(
                [of_p - of_difference, of_h + of_difference, of_difference, weights["of_product/kernel"]]
            )
            hidden = np.concatenate([p, h, p - h, p * h]) @ matrix + weights["of_query/bias"]
            hidden = np.maximum(hidden, 0) @ weights["hidden_1/kernel"] + weights["hidden_1/bias"]
            scores[t] = (np.maximum(hidden, 0) @ weights["score/kernel"])[0]
        if scores:
            exponentials = np.exp(np.array(list(scores.values())) - max(scores.values()))
            found[row, list(scores)] = exponentials / exponentials.sum()
    return found


def make(form, width=UNITS):
    rng = np.random.default_rng(0)
    events = rng.normal(size=(3, STEPS, UNITS)).astype(np.float32)
    query = rng.normal(size=(4, width)).astype(np.float32)
    mask = np.arange(STEPS) < np.array([STEPS, 2, 0])[:, np.newaxis]
    layer = HistoryAttention(form, hidden_dims=(8, 4))
    request = np.array([0, 1, 1, 2], np.int32)
    layer(events, query, mask, request)
    layer.set_weights([rng.normal(size=x.shape) for x in layer.get_weights()])
    return layer, events, query, mask, request


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("compiled", [False, True])
def test_weights_are_the_reference(form, compiled):
    layer, events, query, mask, request = make(form)
    call = tf.function(layer.__call__) if compiled else layer
    found = call(*map(tf.constant, (events, query, mask, request))).numpy()
    wanted = reference(layer, events, query, mask, request)
    np.testing.assert_array_less(np.abs(found - wanted), 1e-5)
    np.testing.assert_allclose(found.sum(axis=1), [1, 1, 1, 0], atol=1e-6)


@pytest.mark.parametrize("form", ["bilinear", "mlp"])
def test_a_query_of_another_width_is_projected(form):
    layer, events, query, mask, request = make(form, width=7)
    assert layer(events, query, mask, request).shape == (4, STEPS)


def test_an_inner_product_of_other_widths_is_refused():
    with pytest.raises(ValueError, match="inner_product needs vectors of one length, got 5 and 7"):
        make("inner_product", width=7)


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="expected one of bilinear"):
        HistoryAttention("cosine")

"""What a configuration of distillation may say, and what holds for every form that it can name."""

import dataclasses
import json
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
import tensorflow as tf
from pydantic import TypeAdapter, ValidationError

from trainers.losses.distillation import Signals
from trainers.losses.distillation_config import DistillationLossConfig, Form, build_losses

CONFIGS = (
    DistillationLossConfig("logits", temperature=2.0),
    DistillationLossConfig("multi_target", soft_weights=(0.5, 0.3)),
    DistillationLossConfig("rocket_launching", weight=0.1),
    DistillationLossConfig("pointwise_ranking", top_k=2),
    DistillationLossConfig("pairwise_ranking"),
    DistillationLossConfig("listwise_ranking", temperature=3.0),
    DistillationLossConfig("hidden"),
    DistillationLossConfig("contrastive", temperature=0.3),
)
every_form = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.form)
SIGNAL_NAMES = [field.name for field in dataclasses.fields(Signals)]


def _build(config):
    tf.keras.utils.set_random_seed(0)
    ((_, layer),) = build_losses([config])
    return layer


def _take(signals, rows):
    return Signals(**{name: tf.gather(getattr(signals, name), rows) for name in SIGNAL_NAMES})


def _gradients(layer, signals):
    """The loss and its gradients by every tensor of the signals, None where it does not depend on it."""
    tensors = {name: getattr(signals, name) for name in SIGNAL_NAMES if name != "request"}
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        loss = layer(Signals(**tensors, request=signals.request))
    return loss, tape.gradient(loss, tensors)


def test_every_form_is_tried_here():
    assert tuple(config.form for config in CONFIGS) == get_args(Form)


@every_form
def test_no_gradient_reaches_the_teacher(make_random_signals, config):
    _, gradients = _gradients(_build(config), make_random_signals([5, 7]))
    assert gradients["teacher_logits"] is None
    assert gradients["teacher_hidden"] is None
    student = [gradients["student_logits"], gradients["student_hidden"]]
    assert any(gradient is not None and np.any(gradient) for gradient in student)


@every_form
def test_a_form_says_whether_it_teaches_every_task(make_random_signals, config):
    layer = _build(config)
    _, gradients = _gradients(layer, make_random_signals([5, 7]))
    by_logits = gradients["student_logits"]
    assert layer.every_task == (by_logits is not None and bool(np.any(by_logits[:, 1])))


@every_form
def test_where_the_teacher_says_nothing_there_is_nothing_to_learn(make_random_signals, config):
    signals = make_random_signals([3, 2])
    silent = dataclasses.replace(
        signals,
        soft_mask=tf.zeros_like(signals.soft_mask),
        teacher_logits=tf.fill(signals.teacher_logits.shape, np.nan),
        teacher_hidden=tf.fill(signals.teacher_hidden.shape, np.nan),
    )
    layer = _build(config)
    loss, gradients = _gradients(layer, silent)
    assert loss == 0
    for name in ("student_logits", "student_hidden"):
        assert gradients[name] is None or not np.any(tf.convert_to_tensor(gradients[name]))


@every_form
def test_a_batch_of_one_row_is_finite(make_random_signals, config):
    signals = make_random_signals([1])
    signals = dataclasses.replace(signals, soft_mask=tf.ones_like(signals.soft_mask))
    loss, gradients = _gradients(_build(config), signals)
    assert np.isfinite(loss)
    for gradient in gradients.values():
        assert gradient is None or np.all(np.isfinite(tf.convert_to_tensor(gradient)))


@every_form
def test_one_graph_takes_batches_of_any_size(make_random_signals, config):
    layer = _build(config)
    batches = [make_random_signals(sizes) for sizes in ([5, 7], [1], [2, 2, 9])]
    eager = [layer(batch) for batch in batches]

    traces = []

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, *getattr(batches[0], name).shape[1:]], getattr(batches[0], name).dtype)
            for name in SIGNAL_NAMES
        ]
    )
    def in_graph(*tensors):
        traces.append(1)
        return layer(Signals(*tensors))

    graph = [in_graph(*(getattr(batch, name) for name in SIGNAL_NAMES)) for batch in batches]
    np.testing.assert_allclose(graph, eager, rtol=1e-5, atol=1e-7)
    assert len(traces) == 1


@every_form
def test_the_order_of_the_requests_and_of_their_rows_is_of_no_account(make_random_signals, config):
    signals = make_random_signals([2, 1, 4, 3])
    layer = _build(config)
    swapped = [7, 8, 9, 3, 4, 5, 6, 2, 0, 1]
    mixed = np.random.default_rng(1).permutation(10)
    for rows in (swapped, mixed):
        np.testing.assert_allclose(layer(_take(signals, rows)), layer(signals), rtol=1e-5)


@every_form
def test_a_layer_survives_the_round_trip_through_its_configuration(make_random_signals, config):
    layer = _build(config)
    copy = type(layer).from_config(json.loads(json.dumps(layer.get_config())))
    assert copy.get_config() == layer.get_config()
    signals = make_random_signals([4, 6])
    value = layer(signals)
    copy(signals)
    copy.set_weights(layer.get_weights())
    np.testing.assert_allclose(copy(signals), value, rtol=1e-6)


def test_losses_keep_their_order_and_weights():
    losses = build_losses([*CONFIGS, CONFIGS[0]])
    assert [weight for weight, _ in losses] == [1.0, 1.0, 0.1, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert losses[0][1].temperature == 2.0
    assert losses[3][1].top_k == 2
    assert len({layer.name for _, layer in losses}) == len(losses)
    ((_, layer),) = build_losses([DistillationLossConfig("logits")])
    assert layer.temperature == 1.0


@every_form
def test_a_config_survives_the_round_trip_through_json(config):
    adapter = TypeAdapter(DistillationLossConfig)
    assert adapter.validate_json(adapter.dump_json(config)) == config


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"form": "logit"}, "unknown form 'logit'. Did you mean 'logits'"),
        ({"form": "pairwise"}, "Did you mean 'pairwise_ranking'"),
        ({"form": 3}, "unknown form 3"),
        ({"form": "logits", "weight": 0.0}, "greater than 0"),
        ({"form": "logits", "weight": float("inf")}, "finite number"),
        ({"form": "logits", "temperature": 0.0}, "greater than 0"),
        ({"form": "logits", "temperature": 100.5}, "less than or equal to 100"),
        ({"form": "logits", "temprature": 2.0}, "temprature\n.*[Uu]nexpected keyword"),
        ({"form": "logits", "top_k": 3}, "form 'logits' takes no top_k"),
        ({"form": "pairwise_ranking", "temperature": 1.0}, "form 'pairwise_ranking' takes no temperature"),
        ({"form": "hidden", "soft_weights": [0.5]}, "form 'hidden' takes no soft_weights"),
        ({"form": "pointwise_ranking"}, "form 'pointwise_ranking' needs top_k"),
        ({"form": "pointwise_ranking", "top_k": 0}, "greater than 0"),
        ({"form": "multi_target"}, "form 'multi_target' needs soft_weights"),
        ({"form": "multi_target", "soft_weights": [1.5]}, "less than or equal to 1"),
    ],
)
def test_what_cannot_be_is_refused(given, message):
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(DistillationLossConfig).validate_python(given)


def test_a_form_is_checked_however_the_config_is_made():
    with pytest.raises(ValueError, match="Did you mean 'contrastive'"):
        DistillationLossConfig("contrast")


def test_the_configuration_imports_no_tensorflow():
    code = "import sys, trainers.losses.distillation_config; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Teacher, control and student on requests whose answer is planted, and the parts of their losses."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from schemas import features as f
from trainers.losses.distillation_config import DistillationConfig, DistillationLossConfig
from trainers.prerank import train
from trainers.prerank.config import StudentConfig, TeacherConfig
from trainers.scorers.data import flatten
from trainers.scorers.learning import ScorerTraining
from trainers.scorers.scores import Scores
from trainers.scorers.selection import AUC, METRIC, Measure
from trainers.scorers.teaching import FrozenTeacher, freeze
from trainers.weight_average import DivergenceError

SHAPE = {
    "embedding_dim": 8,
    "output_dim": 8,
    "hidden_dims": (),
    "batch_size": 256,
    "max_epochs": 5,
    "patience_epochs": 5,
    "learning_rate": 0.03,
    "weight_decay": 0.01,
    "weight_averaging": 0.8,
    "dropout": 0.0,
    "query_dropout": 0.0,
    "id_dropout": 0.1,
}
STUDENT = StudentConfig(**SHAPE)
TEACHER = TeacherConfig(
    **{**SHAPE, "max_epochs": 8, "patience_epochs": 2},
    form="pfd_md",
    deep_dims=(8,),
    disabled_groups=("crosses",),
)


@pytest.fixture(scope="module")
def old(make_training):
    """The teacher's days."""
    return make_training(400, seed=1)


@pytest.fixture(scope="module")
def new(make_training):
    """The student's days."""
    return make_training(800, seed=2)


@pytest.fixture(scope="module")
def log_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("log")


@pytest.fixture(scope="module")
def teacher(old, log_dir):
    return train.train_teacher(TEACHER, old, str(log_dir))


@pytest.fixture(scope="module")
def control(new):
    return train.train_control(STUDENT, new)


@pytest.fixture(scope="module")
def student(new, teacher):
    return train.train_student(STUDENT, DistillationConfig(weight=0.9), new, freeze(teacher.scorer, 0))


@pytest.fixture(scope="module")
def held_out(make_batch):
    return _tensors(flatten(make_batch(600, seed=77)))


def _tensors(inputs):
    return {name: tf.convert_to_tensor(values) for name, values in inputs.items()}


def _auc(logits, labels):
    """How often a positive stands above a negative."""
    positive, negative = logits[labels > 0], logits[labels == 0]
    above, equal = (
        np.mean(op(positive[:, np.newaxis], negative)) for op in (np.greater, np.equal)
    )  # all pairs
    return above + equal / 2


def _held_out_auc(result, held_out):
    logits = result.scorer(held_out).logits.numpy()[:, 0]
    return _auc(logits, held_out[f.CLICKED].numpy())


def test_a_control_learns_who_likes_what(control, held_out):
    logits = control.scorer(held_out).logits.numpy()[:, 0]
    assert _held_out_auc(control, held_out) > 0.65
    assert logits.min() < -0.5 < 0.5 < logits.max(), "neither constant nor of one sign"


def test_a_teacher_that_sees_more_is_far_above_and_lifts_its_student(teacher, control, student, held_out):
    aucs = [_held_out_auc(x, held_out) for x in (control, student, teacher)]
    assert aucs[0] + 0.03 < aucs[1] < aucs[2]
    assert aucs[0] + 0.1 < aucs[2]


def test_training_stops_when_patience_ends_and_the_best_epoch_is_kept(teacher, old):
    losses = teacher.history[METRIC]
    assert len(losses) == len(teacher.history["loss"]) == len(teacher.epoch_seconds)
    assert teacher.best_epoch == int(np.argmin(losses)) == len(losses) - 3, "two epochs without a better one"
    assert len(losses) < 8, "the test needs a training that stops early"
    kept = Measure(ScorerTraining(teacher.scorer))(old.evaluation)
    np.testing.assert_allclose(kept, [min(losses), teacher.history[AUC][teacher.best_epoch]], rtol=1e-5)


def test_a_training_that_diverges_says_so(make_training):
    config = dataclasses.replace(STUDENT, learning_rate=1e30)
    with pytest.raises(DivergenceError, match="training diverged: in epoch 1 the loss is nan"):
        train.train_control(config, make_training(50, seed=1))


def test_what_is_measured_is_the_log_loss_and_the_auc(teacher, old):
    """Not 0.0, which is what Keras reports of a model without a test step."""
    inputs = flatten(next(iter(old.evaluation)))
    logits = teacher.scorer(inputs).logits.numpy()[:, 0].astype(np.float64)
    labels = inputs[f.CLICKED].numpy()
    loss = np.mean(np.log1p(np.exp(logits)) - labels * logits)
    found = Measure(ScorerTraining(teacher.scorer))(old.evaluation)
    np.testing.assert_allclose(found, [loss, _auc(logits, labels)], atol=2e-3)
    np.testing.assert_allclose(found[0], loss, rtol=1e-5)


def test_tensorboard_has_every_epoch(teacher, log_dir):
    found = {}
    for path in Path(log_dir).rglob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                number = float(tf.make_ndarray(value.tensor)) if value.HasField("tensor") else None
                found.setdefault((path.parent.name, value.tag), []).append(number)
    np.testing.assert_allclose(found["train", "epoch_loss"], teacher.history["loss"], rtol=1e-5)
    np.testing.assert_allclose(found["validation", "epoch_loss"], teacher.history[METRIC], rtol=1e-5)
    np.testing.assert_allclose(found["validation", "epoch_auc"], teacher.history[AUC], rtol=1e-5)


def test_a_teacher_that_counts_nothing_leaves_the_control_bit_for_bit(make_training):
    """λ = 0, the same seed and rows, dropout on: what differs between them is the teacher alone."""
    dropout = {"dropout": 0.2, "query_dropout": 0.2, "max_epochs": 2}
    config, new = dataclasses.replace(STUDENT, **dropout), make_training(200, seed=3)
    control, again = (train.train_control(config, new).scorer.get_weights() for _ in range(2))
    frozen = _frozen(lambda inputs: tf.ones_like(inputs[f.CLICKED])[:, tf.newaxis])
    losses = (DistillationLossConfig("logits"), DistillationLossConfig("hidden"))
    student = train.train_student(config, DistillationConfig(weight=0.0, losses=losses), new, frozen)
    for x, y, z in zip(control, again, student.scorer.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)
        np.testing.assert_array_equal(x, z)


def _frozen(score):
    """A teacher made of a function from inputs to logits."""
    names = {"user_id_index", "item_id_index", "category_index"}
    return FrozenTeacher(lambda inputs: Scores(score(inputs), score(inputs)), ("clicked",), names, 0)

"""What reaches whom: the parts of a distillation's loss, and of its gradients, on one batch."""

import numpy as np
import pytest
import tensorflow as tf

from schemas import features as f
from trainers.losses.distillation_config import DistillationConfig, DistillationLossConfig
from trainers.prerank import train
from trainers.prerank.config import TASKS, StudentConfig, TeacherConfig
from trainers.prerank.model import TwoTowerStudent
from trainers.prerank.teachers import build_teacher
from trainers.prerank.train import USER_TABLE
from trainers.scorers.data import TEACHER_HIDDEN, TEACHER_LOGITS, flatten
from trainers.scorers.learning import Distillation, ScorerTraining
from trainers.scorers.selection import Measure

SHAPE = {
    "tasks": TASKS,
    "embedding_dim": 6,
    "output_dim": 4,
    "hidden_dims": (5,),
    "batch_size": 32,
    "max_epochs": 4,
    "dropout": 0.0,
    "query_dropout": 0.0,
    "id_dropout": 0.0,
    "event_dropout": 0.0,
}
STUDENT = StudentConfig(**SHAPE)
TEACHERS = {form: TeacherConfig(form=form, deep_dims=(7,), **SHAPE) for form in ("pfd_md", "pfd")}
FORMS = (
    DistillationLossConfig("logits", temperature=2.0),
    DistillationLossConfig("multi_target", soft_weights=(0.7, 0.4)),
    DistillationLossConfig("rocket_launching"),
    DistillationLossConfig("pointwise_ranking", top_k=1),
    DistillationLossConfig("pairwise_ranking"),
    DistillationLossConfig("listwise_ranking"),
    DistillationLossConfig("hidden"),
    DistillationLossConfig("contrastive"),
)
LOGITS = (FORMS[0],)
TABLES = {"user_id_index", "item_id_index", "category_index"}


@pytest.fixture(scope="module")
def training(make_training):
    return make_training(30, seed=1)


@pytest.fixture(scope="module")
def inputs(make_batch):
    return {name: tf.convert_to_tensor(x) for name, x in flatten(make_batch(30, seed=2)).items()}


@pytest.fixture
def build_jointly(training, monkeypatch):
    """What `train_jointly` would train, its variables made."""
    monkeypatch.setattr(train, "fit", lambda model, *rest: model)

    def build(form="pfd_md", **distillation):
        config = DistillationConfig(mode="joint", **distillation)
        model = train.train_jointly(STUDENT, TEACHERS[form], config, training)
        model.compile("adam")
        model.compute_batch_loss(flatten(next(iter(training.train))))
        rng = np.random.default_rng(5)
        for variable in model.trainable_variables:  # far from where they start: zeros hide mistakes
            variable.assign(rng.normal(scale=0.4, size=variable.shape))
        return model

    return build


@pytest.fixture
def build_frozen(training):
    """A student whose batches hold its teacher's scores."""

    def build(losses, weight, soft_on_every_row=True):
        tf.keras.utils.set_random_seed(1)
        student = TwoTowerStudent(training.features[:3], STUDENT, (0.5, 0.5))
        config = DistillationConfig(losses=losses, weight=weight)
        model = Distillation(student, config, soft_on_every_row=soft_on_every_row)
        model.compile("adam")
        return model

    return build


def _bce(logits, labels, weights):
    """Σ_k w_k · mean BCE, of the conversion over clicked rows."""
    losses = np.log1p(np.exp(logits)) - labels * logits
    clicked = labels[:, 0] > 0
    return weights[0] * losses[:, 0].mean() + weights[1] * losses[clicked, 1].mean()


def _labels(inputs):
    return np.stack([inputs[f.CLICKED], inputs[f.CONVERTED]], axis=1).astype(np.float64)


def _logits(scorer, inputs):
    return scorer(inputs).logits.numpy().astype(np.float64)


def _gradients(model, inputs, variables):
    with tf.GradientTape() as tape:
        loss = model.compute_batch_loss(inputs)
    return [x.numpy() for x in map(tf.convert_to_tensor, tape.gradient(loss, variables))]


def _tables(variables):
    return {v.name.split("/")[-1].removesuffix(":0") for v in variables if "tables/" in v.name}


@pytest.mark.parametrize("form", TEACHERS)
def test_the_teachers_loss_never_reaches_the_teacher(build_jointly, inputs, form):
    """With every form of it, the teacher's gradients are those of its labels alone; the student's are not."""
    model = build_jointly(form, losses=FORMS, weight=1.0, warm_up_fraction=0.5)
    own, others = [], []
    for step in (0, 1000):  # λ is 0, then 1
        model.optimizer.iterations.assign(step)
        own.append(_gradients(model, inputs, model.teacher.trainable_variables))
        others.append(_gradients(model, inputs, model.scorer.trainable_variables))
    assert all(np.any(x) for x in own[0])
    for x, y in zip(*own, strict=True):
        np.testing.assert_array_equal(x, y)
    assert any(not np.allclose(x, y) for x, y in zip(*others, strict=True))


def test_the_joint_loss_is_the_labels_of_both_and_the_teachers_share(build_jointly, inputs):
    """(1 - λ) L_s + λ L_d + L_t; L_d of logits at T = 1 is a KL divergence, worked out here."""
    model = build_jointly(losses=(DistillationLossConfig("logits", weight=2.0),), weight=0.3)
    model.optimizer.iterations.assign(1000)
    student, teacher = _logits(model.scorer, inputs), _logits(model.teacher, inputs)
    clicked = _labels(inputs)[:, 0] > 0
    p, q = 1 / (1 + np.exp(-teacher)), 1 / (1 + np.exp(-student))
    kl = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    soft = kl[:, 0].mean() + kl[clicked, 1].mean()  # this teacher sees what only a click tells
    expected = 0.7 * _bce(student, _labels(inputs), (1, 1)) + 0.3 * 2.0 * soft
    expected += _bce(teacher, _labels(inputs), (1, 1))
    np.testing.assert_allclose(model.compute_batch_loss(inputs), expected, rtol=1e-5)


def test_each_target_has_its_own_share_of_the_labels(build_frozen, inputs):
    """1 - λ λ_k: of a target that has nothing from the teacher, all."""
    losses = (DistillationLossConfig("multi_target", soft_weights=(0.5, 0.0)),)
    model = build_frozen(losses, 0.4)
    scores = model.scorer(inputs)
    # A teacher that says what the student says: the soft part is 0.
    inputs = {**inputs, TEACHER_LOGITS: scores.logits, TEACHER_HIDDEN: scores.hidden}
    expected = _bce(scores.logits.numpy().astype(np.float64), _labels(inputs), (0.8, 1.0))
    np.testing.assert_allclose(model.compute_batch_loss(inputs), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("form", "shares"), [("listwise_ranking", (0.25, 1.0)), ("hidden", (0.25, 1.0)), ("logits", (0.25, 0.25))]
)
def test_labels_give_up_nothing_of_a_task_that_no_form_teaches(build_frozen, inputs, form, shares):
    """The order of a request is the click's, and a hidden layer is no task's; λ = .75."""
    model = build_frozen((DistillationLossConfig("hidden"), DistillationLossConfig(form)), 0.75)
    scores = model.scorer(inputs)
    # A teacher that says what the student says: the soft part is 0.
    inputs = {**inputs, TEACHER_LOGITS: scores.logits, TEACHER_HIDDEN: scores.hidden}
    expected = _bce(scores.logits.numpy().astype(np.float64), _labels(inputs), shares)
    np.testing.assert_allclose(model.compute_batch_loss(inputs), expected, rtol=1e-5)


def test_the_first_steps_learn_from_labels_alone(build_jointly, inputs, training):
    """30 requests in batches of about 32 rows, 4 epochs: half of the steps."""
    requests = round(SHAPE["batch_size"] * training.num_requests / training.num_rows)
    steps = -(-training.num_requests // requests) * SHAPE["max_epochs"]
    model = build_jointly(losses=LOGITS, weight=0.9, warm_up_fraction=0.5)
    labels = sum(_bce(_logits(x, inputs), _labels(inputs), (1, 1)) for x in (model.scorer, model.teacher))
    assert steps >= 8
    for step, is_warm_up in ((0, True), (steps // 2 - 1, True), (steps // 2, False), (steps - 1, False)):
        model.optimizer.iterations.assign(step)
        loss = model.compute_batch_loss(inputs).numpy()
        assert np.isclose(loss, labels, rtol=1e-5) == is_warm_up, step


@pytest.mark.parametrize("form", TEACHERS)
@pytest.mark.parametrize(
    ("sharing", "shared"), [("none", set()), ("all", TABLES), ("all_but_user_id", TABLES - {USER_TABLE})]
)
def test_exactly_the_tables_named_are_shared(build_jointly, inputs, form, sharing, shared):
    model = build_jointly(form, losses=LOGITS, sharing=sharing)
    variables = model.teacher.trainable_variables
    with tf.GradientTape() as tape:
        logits = model.scorer(inputs).logits
    gradients = tape.gradient(logits, variables)
    read = [v for v, gradient in zip(variables, gradients, strict=True) if gradient is not None]
    assert _tables(read) == shared
    assert len(read) == len(shared), "nothing but tables"


def test_what_is_shared_learns_from_both(build_jointly, inputs):
    """A table that the student reads too has the soft loss in its gradient, the teacher's own has not."""
    model = build_jointly(losses=LOGITS, weight=1.0, sharing="all_but_user_id", warm_up_fraction=0.5)
    variables = model.teacher.trainable_variables
    gradients = []
    for step in (0, 1000):
        model.optimizer.iterations.assign(step)
        gradients.append(_gradients(model, inputs, variables))
    moved = [v for v, x, y in zip(variables, *gradients, strict=True) if not np.array_equal(x, y)]
    assert _tables(moved) == TABLES - {USER_TABLE} and len(moved) == 2


def test_conversions_count_on_clicked_rows_alone(training, inputs):
    """Labels where there was no click may be anything."""
    other = {**inputs, f.CONVERTED: tf.where(inputs[f.CLICKED] > 0, inputs[f.CONVERTED], 1.0)}
    less = {**inputs, f.CONVERTED: tf.zeros_like(inputs[f.CONVERTED])}
    teacher = ScorerTraining(build_teacher(training.features, TEACHERS["pfd_md"], (0.5, 0.5)))
    assert not np.array_equal(other[f.CONVERTED], inputs[f.CONVERTED])
    assert teacher.compute_batch_loss(other) == teacher.compute_batch_loss(inputs)
    assert teacher.compute_batch_loss(less) != teacher.compute_batch_loss(inputs)


@pytest.mark.parametrize("everywhere", [True, False])
def test_a_conversions_soft_label_counts_where_the_teacher_knows(build_frozen, inputs, everywhere):
    model = build_frozen(LOGITS, 1.0, soft_on_every_row=everywhere)
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(len(inputs[f.CLICKED]), 2)).astype(np.float32)
    unclicked = inputs[f.CLICKED].numpy() == 0
    losses = []
    for more in (0.0, 3.0):
        logits[unclicked, 1] += more
        losses.append(
            float(model.compute_batch_loss({**inputs, TEACHER_LOGITS: logits, TEACHER_HIDDEN: logits}))
        )
    assert (losses[0] != losses[1]) == everywhere


def test_a_projection_between_hidden_layers_is_trained(build_jointly, inputs):
    for form in FORMS[-2:]:
        model = build_jointly(losses=(form,), weight=1.0, warm_up_fraction=0.0)
        (kernel,) = (v for v in model.trainable_variables if "projection" in v.name and v.shape == (8, 7))
        assert np.any(_gradients(model, inputs, [kernel])[0])


def test_what_the_epoch_is_chosen_by_is_the_log_loss_of_all_rows(training, make_batch):
    """Batches of unequal size and shares of clicks; of the conversion the mean is over clicked rows."""
    student = TwoTowerStudent(training.features[:3], STUDENT, (0.5, 0.5))
    batches = [make_batch(count, seed) for count, seed in ((40, 5), (3, 6))]
    batches[1]["rows"][f.CLICKED][:] = 1.0
    batches[1]["rows"][f.CONVERTED][:] = 1.0
    rows = [flatten(batch) for batch in batches]
    logits = np.concatenate([_logits(student, x) for x in rows])
    labels = np.concatenate([_labels(x) for x in rows])
    requests = tf.data.Dataset.from_tensors(batches[0]).concatenate(tf.data.Dataset.from_tensors(batches[1]))
    loss, _ = Measure(ScorerTraining(student))(requests)
    np.testing.assert_allclose(loss, _bce(logits, labels, (1, 1)), rtol=1e-5)

"""Which teacher may teach which student, and what of a configuration is refused."""

import dataclasses
import re

import numpy as np
import pytest
import tensorflow as tf
from pydantic import TypeAdapter, ValidationError

from schemas import features as f
from trainers.losses.distillation_config import DistillationConfig, DistillationLossConfig
from trainers.prerank import train
from trainers.prerank.config import TASKS, StudentConfig, TeacherConfig
from trainers.prerank.export import load_teacher
from trainers.prerank.feature_choice import select_features
from trainers.prerank.teachers import build_teacher
from trainers.scorers.data import IS_ROW, ROWS, TEACHER_HIDDEN, TEACHER_LOGITS, flatten
from trainers.scorers.scores import Scores
from trainers.scorers.teaching import FrozenTeacher, TeacherError

STUDENT = StudentConfig()
TEACHER = TeacherConfig(deep_dims=(4,))
SERVED = ("user_id_index", "item_id_index", "category_index")
SEES = {
    "md": (*SERVED, "pair_hash"),
    "pfd": (*SERVED, "visits_zscore"),
    "pfd_md": (*SERVED, "pair_hash", "visits_zscore"),
}


@pytest.fixture(scope="module")
def training(make_training):
    return make_training(10, seed=1)


def _frozen(tasks, features):
    def score(inputs):
        number = tf.cast(inputs["item_id_index"], tf.float32)[:, tf.newaxis]
        return Scores(number, tf.concat([number, -number, number], axis=1))

    return FrozenTeacher(score, tasks, set(features), until_ms=0)


def _teach(teacher, student, training):
    return train.train_student(student, DistillationConfig(), training, teacher)


def test_a_teacher_of_other_labels_is_refused(training):
    student = dataclasses.replace(STUDENT, tasks=TASKS)
    with pytest.raises(TeacherError, match=r"\['clicked'\], the student's \['clicked', 'converted'\].*tasks"):
        _teach(_frozen(("clicked",), SERVED), student, training)


def test_a_teacher_that_sees_less_is_refused(training):
    with pytest.raises(TeacherError, match=r"does not see item_id_index, category_index, which.*disabled_gr"):
        _teach(_frozen(("clicked",), ("user_id_index", "visits_zscore")), STUDENT, training)


def test_what_the_student_does_not_see_its_teacher_need_not(training):
    student = dataclasses.replace(STUDENT, disabled_groups=("attributes",))
    _frozen(TASKS, SERVED[:2]).check(student.tasks, select_features(training.features, student))


def test_jointly_the_same_is_refused(training):
    teacher = dataclasses.replace(TEACHER, disabled_groups=("attributes",))
    joint = DistillationConfig(mode="joint")
    with pytest.raises(TeacherError, match="does not see category_index"):
        train.train_jointly(STUDENT, teacher, joint, training)


def test_a_folder_without_a_teacher_is_refused(tmp_path):
    with pytest.raises(TeacherError, match=r"teacher\.json: missing; expected a teacher"):
        load_teacher(str(tmp_path))


def test_scores_of_rows_lie_beside_them_and_padding_has_none(make_batch):
    """Folded and flattened again, each row has the score of its own item."""
    batch = tf.nest.map_structure(tf.convert_to_tensor, make_batch(20, seed=3))
    scored = _frozen(("clicked",), SERVED).add_scores(batch)
    is_row = batch[IS_ROW].numpy()
    logits, hidden = (scored[ROWS][name].numpy() for name in (TEACHER_LOGITS, TEACHER_HIDDEN))
    assert logits.shape == (20, 4, 1) and hidden.shape == (20, 4, 3)
    assert not logits[~is_row].any() and not is_row.all()
    inputs = flatten(scored)
    np.testing.assert_array_equal(inputs[TEACHER_LOGITS][:, 0], inputs["item_id_index"])
    np.testing.assert_array_equal(inputs[TEACHER_HIDDEN][:, 1], -inputs["item_id_index"])


@pytest.mark.parametrize("form", SEES)
def test_a_form_sees_what_its_name_says(training, form):
    config = dataclasses.replace(TEACHER, form=form)
    assert {x.name for x in select_features(training.features, config)} == {*SEES[form]}
    assert {x.name for x in build_teacher(training.features, config, (0.5,)).features} == {*SEES[form]}
    # What only a click tells is for conversions, and for a form with privileged features.
    both = {x.name for x in select_features(training.features, dataclasses.replace(config, tasks=TASKS))}
    assert both - {*SEES[form]} == (set() if form == "md" else {"basket_zscore"})


def test_a_student_sees_both_sides_and_nothing_privileged(training):
    assert [x.name for x in select_features(training.features, STUDENT)] == list(SERVED)


def test_a_teacher_is_one_that_knows_every_row_unless_a_click_tells_it(training):
    assert _frozen(TASKS, SEES["pfd"]).knows_every_row(training.features)
    assert not _frozen(TASKS, (*SERVED, "basket_zscore")).knows_every_row(training.features)


@pytest.mark.parametrize("form", ["pfd", "pfd_md"])
@pytest.mark.parametrize("why", ["the schema has none", "the group is off"])
def test_privileged_features_are_needed_where_the_form_says_so(training, form, why):
    features = training.features
    config = dataclasses.replace(TEACHER, form=form)
    if why == "the group is off":
        config = dataclasses.replace(config, disabled_groups=("interactions",))
    else:
        features = [x for x in features if x.role is not f.Role.PRIVILEGED]
    with pytest.raises(ValueError, match=r"prerank_teacher\.form.*privileged features, and there is none"):
        build_teacher(features, config, (0.5,))
    assert build_teacher(features, dataclasses.replace(config, form="md"), (0.5,))


@pytest.mark.parametrize(
    ("groups", "side"), [(("user_id",), "query"), (("item_id", "attributes"), "candidate")]
)
@pytest.mark.parametrize("config", [STUDENT, TEACHER])
def test_a_side_without_a_feature_is_refused(training, config, groups, side):
    with pytest.raises(ValueError, match=f"disabled_groups .*{groups[0]}.* leave the {side} side no feature"):
        select_features(training.features, dataclasses.replace(config, disabled_groups=groups))


@pytest.mark.parametrize("sharing", ["all", "all_but_user_id"])
def test_tables_of_different_widths_are_not_shared(training, sharing):
    student = dataclasses.replace(STUDENT, embedding_dim=TEACHER.embedding_dim + 1)
    message = rf"prerank\.embedding_dim is {student.embedding_dim}, prerank_teacher\.embedding_dim"
    with pytest.raises(ValueError, match=message):
        train.train_jointly(student, TEACHER, DistillationConfig(mode="joint", sharing=sharing), training)


@pytest.mark.parametrize(
    ("kind", "values", "key", "message"),
    [
        (DistillationConfig, {"sharing": "all"}, "", "sharing 'all' needs mode 'joint'"),
        (DistillationConfig, {"losses": []}, "", "losses: expected at least one form"),
        (DistillationConfig, {"weight": 1.1}, "weight", "less than or equal to 1"),
        (DistillationConfig, {"weight": -0.1}, "weight", "greater than or equal to 0"),
        (DistillationConfig, {"weight": float("nan")}, "weight", "less than or equal to 1"),
        (DistillationConfig, {"warm_up_fraction": 1.0}, "warm_up_fraction", "less than 1"),
        (
            DistillationConfig,
            {"losses": [{"form": "logits", "temperature": 0}]},
            "losses.0.temperature",
            "greater than 0",
        ),
        (
            DistillationLossConfig,
            {"form": "logits", "temperature": float("inf")},
            "temperature",
            "less than or equal",
        ),
        (DistillationLossConfig, {"form": "logit"}, "form", "Did you mean 'logits'"),
        (TeacherConfig, {"days_fraction": 1.0}, "days_fraction", "less than 1"),
        (TeacherConfig, {"form": "mdp"}, "form", "'md', 'pfd' or 'pfd_md'"),
        (StudentConfig, {"tasks": ["converted"]}, "", r"tasks: expected \[clicked\] or \[clicked, conv"),
        (StudentConfig, {"tasks": []}, "", "tasks: expected"),
    ],
)
def test_values_out_of_range_are_refused_by_their_key(kind, values, key, message):
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(values)
    (error,) = caught.value.errors()
    assert ".".join(map(str, error["loc"])) == key
    assert re.search(message, error["msg"]), error["msg"]

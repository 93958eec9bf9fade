"""TFX's hook: teacher, control and student in turn, as the pipeline's Trainer nodes call it."""

import dataclasses
import json
import os

import numpy as np
import pytest
import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs

from components.privileged_check import find_privileged_inputs
from schemas import features as f
from trainers.losses.distillation_config import DistillationConfig
from trainers.prerank import export, runner, train
from trainers.prerank.config import TASKS, StudentConfig, TeacherConfig
from trainers.raw_features import EXTRA_DIR
from trainers.scorers.data import TIME, flatten
from trainers.scorers.rows import EVAL, TRAIN, RowSource
from trainers.scorers.teaching import TeacherError

pytestmark = pytest.mark.slow

MONDAY_MS = 1_704_067_200_000  # Monday, 1 January 2024, 00:00 UTC
DAY_MS = 86_400_000
SHAPE = {
    "embedding_dim": 4,
    "output_dim": 4,
    "hidden_dims": (),
    "batch_size": 32,
    "max_epochs": 1,
    # Few features: all of them are test_scorers_reference.py's.
    "disabled_groups": ("time", "text", "context"),
}
CONFIGS = {
    runner.TEACHER_CONFIG: dataclasses.asdict(
        TeacherConfig(form="pfd_md", tasks=TASKS, deep_dims=(4,), days_fraction=0.5, **SHAPE)
    ),
    runner.STUDENT_CONFIG: dataclasses.asdict(StudentConfig(**SHAPE)),
    runner.DISTILLATION_CONFIG: dataclasses.asdict(DistillationConfig()),
}
NODES = {"teacher": 1, "control": 2, "student": 3}  # how many of the configurations each is given


@pytest.fixture(scope="module")
def files(marketplace, random_rows):
    """Four days of 20 rows, in requests of two."""
    rows = [
        {
            **row,
            "timestamp": MONDAY_MS + n // 20 * DAY_MS,
            "request_id": f"r{n // 2}",
            "user_id": f"u{n // 2 % 8}",
        }
        for n, row in enumerate(random_rows("marketplace", 80, seed=4))
    ]
    return {TRAIN: [marketplace.write(rows, "run_train")], EVAL: [marketplace.write(rows[60:], "run_eval")]}


@pytest.fixture(scope="module")
def make_fn_args(marketplace, files):
    """What a Trainer node gives `run_fn`: configurations as JSON brings them back, lists for tuples."""

    def make(name, folder, base_model=None):
        keys = list(CONFIGS)[: NODES[name]]
        return FnArgs(
            train_files=files[TRAIN],
            eval_files=files[EVAL],
            transform_output=os.path.join(marketplace.folder, "graph"),
            serving_model_dir=str(folder / name),
            model_run_dir=str(folder / f"{name}_log"),
            base_model=base_model,
            custom_config={
                **json.loads(json.dumps({key: CONFIGS[key] for key in keys})),
                "code_fingerprint": "x",
            },
        )

    return make


@pytest.fixture(scope="module")
def trained(make_fn_args, tmp_path_factory):
    """The models' folders, and what each training was given."""
    folder, seen = tmp_path_factory.mktemp("runs"), {}
    with pytest.MonkeyPatch.context() as patch:
        for name in NODES:
            function = getattr(train, f"train_{name}")

            def watched(*args, function=function, name=name):
                seen[name] = args
                return function(*args)

            patch.setattr(train, f"train_{name}", watched)
        for name in NODES:
            base_model = str(folder / "teacher") if name == "student" else None
            runner.run_fn(make_fn_args(name, folder, base_model))
    return folder, seen


def _read_days(training):
    return sorted({(int(t) - MONDAY_MS) // DAY_MS for batch in training.train for t in batch[TIME]})


def test_the_teacher_has_the_oldest_days_and_the_others_the_rest(trained, marketplace, files):
    _, seen = trained
    teacher, control, student = (seen["teacher"][1], seen["control"][1], seen["student"][2])
    assert _read_days(teacher) == [0, 1]
    assert _read_days(control) == _read_days(student) == [2, 3]
    assert (teacher.num_rows, control.num_rows, student.num_rows) == (40, 40, 40)
    assert control.positive_rates == student.positive_rates
    assert control.num_requests == student.num_requests == 20
    assert seen["control"][0] == seen["student"][0] == StudentConfig(**SHAPE)
    cut = RowSource(files, marketplace.transform).find_cut(0.5)
    assert seen["student"][3].until_ms == cut == MONDAY_MS + 2 * DAY_MS


def test_the_students_teacher_is_the_base_model(trained, marketplace):
    """What it was asked says what the exported teacher says."""
    folder, seen = trained
    batch = next(iter(seen["student"][2].train))
    inputs = flatten(batch)
    expected = export.load_teacher(str(folder / "teacher")).score(inputs)
    np.testing.assert_array_equal(seen["student"][3].score(inputs).logits, expected.logits)
    with tf.io.gfile.GFile(str(folder / "teacher" / EXTRA_DIR / export.ABOUT_FILE)) as stream:
        assert json.load(stream)["tasks"] == list(TASKS)


def test_models_have_their_signatures(trained, marketplace):
    folder, _ = trained
    signatures = {name: tf.saved_model.load(str(folder / name)).signatures for name in NODES}
    served = {"score_examples", "user_vector", "user_vector_raw", "item_vector", "score_vectors"}
    assert set(signatures["teacher"]) == {"score_examples"}
    assert set(signatures["control"]) == set(signatures["student"]) == served
    examples = marketplace.serialize([{}, {"user_id": "u2"}])
    for name, tasks in (("teacher", TASKS), ("control", TASKS[:1]), ("student", TASKS[:1])):
        answer = signatures[name]["score_examples"](examples=examples)
        assert set(answer) == set(tasks)
        for probabilities in answer.values():
            assert probabilities.shape == (2,) and np.all((probabilities > 0) & (probabilities < 1))
        vectors = {"item_id": (2,), "vectors": (2, 4)}
        if name != "teacher":
            items = signatures[name]["item_vector"](examples=examples)
            assert {key: tuple(x.shape) for key, x in items.items()} == vectors
    assert np.any(
        signatures["control"]["score_examples"](examples=examples)["clicked"]
        != signatures["student"]["score_examples"](examples=examples)["clicked"]
    ), "the teacher taught nothing"


def test_nothing_privileged_is_asked_of_a_request(trained, marketplace):
    folder, _ = trained
    schema = marketplace.transform.raw_metadata.schema
    names = {x.name for x in f.read_features(schema, f.Role.PRIVILEGED, f.Role.PRIVILEGED_POST_EVENT)}
    for name in ("control", "student"):
        assert find_privileged_inputs(str(folder / name), names) == []
    found = find_privileged_inputs(str(folder / "teacher"), names)
    assert found == sorted(f"score_examples: {name}" for name in names), "the check finds what is there"


def test_every_training_is_logged(trained):
    folder, _ = trained
    for name in NODES:
        assert list((folder / f"{name}_log").rglob("events*")), name


def test_a_student_needs_a_teacher_at_its_base_model(make_fn_args, trained, tmp_path):
    folder, _ = trained
    with pytest.raises(TeacherError, match=r"teacher\.json: missing"):
        runner.run_fn(make_fn_args("student", tmp_path, str(folder / "control")))

"""TFX's hook, as the node calls it: a ranker that learns from pre-ranking's teacher, one with a booster."""

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
from trainers.prerank import runner as prerank_runner
from trainers.prerank.config import TASKS, TeacherConfig
from trainers.prerank.export import load_teacher
from trainers.ranking import runner
from trainers.ranking.config import RankerConfig
from trainers.scorers.data import QUERY, ROWS, TIME, flatten
from trainers.scorers.rows import NoRowsError
from trainers.scorers.teaching import TeacherError

pytestmark = pytest.mark.slow

MONDAY_MS = 1_704_067_200_000  # Monday, 1 January 2024, 00:00 UTC
DAY_MS = 86_400_000
# Few features: all of them are test_ranker_reference.py's.
FITTING = {
    **{"embedding_dim": 4, "batch_size": 32, "max_epochs": 1},
    "disabled_groups": ("time", "text", "context"),
}
TEACHER = TeacherConfig(
    form="pfd_md", tasks=TASKS, deep_dims=(4,), hidden_dims=(), output_dim=4, days_fraction=0.5, **FITTING
)
RANKER = RankerConfig(
    units=5, attention_dims=(4,), head_dims=(4,), product_dim=3, num_negatives=2, depth=10, **FITTING
)
DISTILLATION = {runner.DISTILLATION_CONFIG: DistillationConfig()}
NODES = {"taught": RANKER, "boosted": dataclasses.replace(RANKER, booster_units=9)}


@pytest.fixture(scope="module")
def rows(random_rows):
    """Four days of 20 rows, in requests of two."""
    return [
        {
            **row,
            "timestamp": MONDAY_MS + n // 20 * DAY_MS,
            "request_id": f"r{n // 2}",
            "user_id": f"u{n // 2 % 8}",
        }
        for n, row in enumerate(random_rows("marketplace", 80, seed=4))
    ]


@pytest.fixture(scope="module")
def make_fn_args(marketplace):
    """What a Trainer node gives `run_fn`: configurations as JSON brings them back, lists for tuples."""

    def make(rows, name, folder, base_model=None, **configs):
        configs = {key: dataclasses.asdict(config) for key, config in configs.items()}
        return FnArgs(
            train_files=[marketplace.write(rows, "rank_train")],
            eval_files=[marketplace.write(rows[60:], "rank_eval")],
            transform_output=os.path.join(marketplace.folder, "graph"),
            serving_model_dir=str(folder / name),
            model_run_dir=str(folder / f"{name}_log"),
            base_model=base_model,
            custom_config={**json.loads(json.dumps(configs)), "code_fingerprint": "x"},
        )

    return make


@pytest.fixture(scope="module")
def teacher(rows, make_fn_args, tmp_path_factory):
    """The folder of pre-ranking's teacher, which has learnt from the first two days."""
    folder = tmp_path_factory.mktemp("teacher")
    prerank_runner.run_fn(make_fn_args(rows, "teacher", folder, teacher_config=TEACHER))
    return str(folder / "teacher")


@pytest.fixture(scope="module")
def trained(rows, make_fn_args, teacher, tmp_path_factory):
    """The rankers' folder, and what each training was given: configuration, rows and by name."""
    folder, seen = tmp_path_factory.mktemp("runs"), {}
    with pytest.MonkeyPatch.context() as patch:
        train_ranker = runner.train_ranker
        for name, ranker in NODES.items():

            def watched(config, training, log_dir, name=name, **others):
                seen[name] = (config, training, others)
                return train_ranker(config, training, log_dir, **others)

            patch.setattr(runner, "train_ranker", watched)
            # The pipeline gives every ranker the teacher.
            runner.run_fn(make_fn_args(rows, name, folder, teacher, ranker_config=ranker, **DISTILLATION))
    return folder, seen


def read_days(training):
    return sorted({(int(t) - MONDAY_MS) // DAY_MS for batch in training.train for t in batch[TIME]})


def test_a_taught_ranker_has_the_days_that_its_teacher_has_not(trained, teacher):
    config, training, others = trained[1]["taught"]
    assert config == RANKER and others["distillation"] == DistillationConfig()
    assert read_days(training) == [2, 3]
    assert (training.num_rows, training.num_requests) == (40, 20)
    assert others["teacher"].until_ms == load_teacher(teacher).until_ms == MONDAY_MS + 2 * DAY_MS


def test_a_ranker_with_a_booster_has_all_days_and_no_teacher(trained):
    config, training, others = trained[1]["boosted"]
    assert config.booster_units == 9 and not others
    assert read_days(training) == [0, 1, 2, 3]
    assert (training.num_rows, training.num_requests) == (80, 40)


def test_its_teacher_is_the_base_model(trained, teacher):
    """What it was asked says what the exported teacher says."""
    _, training, others = trained[1]["taught"]
    inputs = flatten(next(iter(training.train)))
    expected = load_teacher(teacher).score(inputs)
    np.testing.assert_array_equal(others["teacher"].score(inputs).logits, expected.logits)


def test_what_only_the_teacher_sees_is_read_for_it_alone(trained):
    def read(name):
        batch = next(iter(trained[1][name][1].train))
        return {*batch[QUERY], *batch[ROWS]}

    privileged = {"user_shop_id_clicks_log2", "user_category_impressions_log_zscore"}
    assert privileged < read("taught") and not privileged & read("boosted")
    crosses = {"user_id_x_item_id_hash", "user_id_x_shop_id_hash"}
    assert crosses < read("taught") and not crosses & read("boosted")


def test_rankers_have_their_signatures(trained, marketplace):
    folder, _ = trained
    examples = marketplace.serialize([{}, {"user_id": "u2", "history_item_id": ["i1"]}])
    answers = {}
    for name in NODES:
        signatures = tf.saved_model.load(str(folder / name)).signatures
        assert set(signatures) == {"score_examples", "encode_items", "rank_encoded", "rank_encoded_raw"}
        answer = signatures["score_examples"](examples=examples)
        assert set(answer) == {f.CLICKED}
        answers[name] = answer[f.CLICKED].numpy()
        assert answers[name].shape == (2,) and np.all((answers[name] > 0) & (answers[name] < 1))
        items = signatures["encode_items"](examples=examples)
        ranked = signatures["rank_encoded"](
            examples=examples,
            request=tf.constant([0, 1]),
            **{key: x for key, x in items.items() if key != f.ITEM_ID},
        )
        np.testing.assert_allclose(ranked[f.CLICKED], answers[name], atol=1e-6)
    assert np.any(answers["taught"] != answers["boosted"])


def test_nothing_privileged_is_asked_of_a_request(trained, teacher, marketplace):
    schema = marketplace.transform.raw_metadata.schema
    names = {x.name for x in f.read_features(schema, f.Role.PRIVILEGED, f.Role.PRIVILEGED_POST_EVENT)}
    for name in NODES:
        assert find_privileged_inputs(str(trained[0] / name), names) == []
    assert find_privileged_inputs(teacher, names), "the check finds what is there"


def test_every_training_is_logged(trained):
    for name in NODES:
        assert list((trained[0] / f"{name}_log").rglob("events*")), name


def test_a_ranker_without_booster_needs_a_teacher_at_its_base_model(rows, make_fn_args, trained, tmp_path):
    folder, _ = trained
    args = make_fn_args(rows, "lost", tmp_path, str(folder / "boosted"), ranker_config=RANKER)
    with pytest.raises(TeacherError, match=r"teacher\.json: missing"):
        runner.run_fn(args)


def test_a_teacher_that_sees_less_is_refused_by_the_features(rows, make_fn_args, teacher, tmp_path):
    ranker = dataclasses.replace(RANKER, disabled_groups=("time", "text"))
    args = make_fn_args(rows, "less", tmp_path, teacher, ranker_config=ranker, **DISTILLATION)
    with pytest.raises(TeacherError, match=r"does not see device_index, city_index"):
        runner.run_fn(args)


@pytest.mark.parametrize("clicked", [0, 1])
def test_labels_of_one_class_are_refused_with_what_to_do(rows, make_fn_args, tmp_path, clicked):
    constant = [{**row, "clicked": clicked} for row in rows]
    args = make_fn_args(constant, "constant", tmp_path, ranker_config=NODES["boosted"])
    message = rf"of 80 training rows {80 * clicked} are clicked: .*Give a log with both, or leave negatives"
    with pytest.raises(NoRowsError, match=message):
        runner.run_fn(args)

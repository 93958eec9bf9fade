import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.prerank import study as study_module
from benchmarks.prerank.data import has_values
from benchmarks.prerank.models import (
    CONTROL,
    CONTROL_ALL_DAYS,
    JOINT_ALL_BUT_USER_ID,
    LEAKING_TEACHER,
    STUDENT,
    TEACHER,
    TWO_TASKS,
    TWO_TASKS_TEACHER,
    list_scorers,
)
from benchmarks.prerank.plot import save_plot
from benchmarks.prerank.report import describe_findings, print_report
from benchmarks.prerank.study import ROWS_FILE, Measured, Study, run_study
from benchmarks.prerank.summary import summarize
from components.score_evaluation.metrics import compute_auc
from pipelines.config import ConfigError
from sources.marketplace import MarketplaceConfig, simulate
from trainers.losses.distillation_config import DistillationConfig
from trainers.prerank.config import TASKS, StudentConfig, TeacherConfig
from trainers.scorers.data import ROWS

ROOT = Path(__file__).parents[2]
NAMES = (CONTROL, TEACHER, STUDENT, LEAKING_TEACHER, f"{STUDENT}, leaking", JOINT_ALL_BUT_USER_ID)
SECONDS = {CONTROL: 4.0, TEACHER: 3.0, STUDENT: 6.0, JOINT_ALL_BUT_USER_ID: 16.0}  # of an epoch
TRAIN_ROWS = {"early": 100, "late": 200, "all": 300}


@pytest.fixture
def scorers():
    every = list_scorers(StudentConfig(), TeacherConfig(), DistillationConfig(), full=False)
    return [spec for spec in every if spec.name in NAMES]


@pytest.fixture
def study(tmp_path, scorers):
    """Results as they are kept: 20 users, scores that know the more of the truth the later the row."""
    rng = np.random.default_rng(0)
    users, truth = np.repeat(np.arange(20), 30), rng.normal(size=600)
    clicked = truth + rng.normal(size=600) > 0.5
    np.savez(tmp_path / "rows.npz", users=users, clicked=clicked)
    results = []
    for seed in (1, 2):
        for number, spec in enumerate(scorers):
            scores = (truth * number + 2.0 * rng.normal(size=600)).astype(np.float32)
            np.save(tmp_path / f"{number}-{seed}.npy", scores)
            results.append(
                Measured(
                    name=spec.name,
                    seed=seed,
                    auc=compute_auc(clicked, scores),
                    gauc=0.5,
                    log_loss=0.6,
                    best_epoch=0,
                    eval_auc=0.6 + 0.1 * seed,
                    epoch_seconds=[100.0, *[SECONDS.get(spec.name, 5.0)] * 2],
                    scores_file=f"{number}-{seed}.npy",
                )
            )
    facts = {
        "train_rows": TRAIN_ROWS,
        "test_rows": 600,
        "test_users": 20,
        "gauc_kept_users": 1.0,
        "gauc_kept_rows": 1.0,
        "drawn_per_click": 0,
        "oracle_auc": 0.9,
        "source": "made up",
        "synthetic": True,
        ROWS_FILE: "rows.npz",
    }
    return results, summarize(results, scorers, facts, tmp_path)


def test_means_gains_and_shares_of_the_gap(study):
    results, summary = study
    rows = {row["name"]: row for row in summary["rows"]}
    aucs = {name: np.array([x.auc for x in results if x.name == name]) for name in rows}
    for name, row in rows.items():
        assert row["auc_mean"] == pytest.approx(aucs[name].mean())
        assert row["auc_sd"] == pytest.approx(aucs[name].std(ddof=1))
        if name != CONTROL:
            assert row["gain"] == pytest.approx(aucs[name].mean() - aucs[CONTROL].mean())
            assert row["gain_low"] < row["gain"] < row["gain_high"]
    assert rows[CONTROL]["gain"] is None
    assert rows[TEACHER]["gap_share"] == pytest.approx(1.0)
    assert rows[STUDENT]["eval_auc_mean"] == pytest.approx(0.75)
    assert summary["protocol"]["seeds"] == [1, 2]


def test_costs_are_of_a_row_with_the_frozen_teachers_and_without_the_first_epoch(study):
    costs = {row["name"]: row["cost_ratio"] for row in study[1]["rows"]}
    control, teacher = 4.0 / 200, 3.0 / 100
    assert costs[CONTROL] == 1.0
    assert costs[TEACHER] == pytest.approx(teacher / control)
    assert costs[STUDENT] == pytest.approx((6.0 / 200 + teacher) / control)
    assert costs[JOINT_ALL_BUT_USER_ID] == pytest.approx(16.0 / 300 / control)


def test_the_report_says_what_is_synthetic_and_how_the_leak_helps(study, tmp_path, capsys):
    _, summary = study
    print_report(summary)
    printed = capsys.readouterr().out
    assert "synthetic" in printed
    assert not [name for name in NAMES if name not in printed]
    assert "…" not in printed and max(map(len, printed.splitlines())) <= 80
    rows = {row["name"]: row for row in summary["rows"]}
    rows[f"{STUDENT}, leaking"]["gain"] = rows[STUDENT]["gain"] - 0.01
    assert "and helps less" in describe_findings(summary)[1]
    rows[f"{STUDENT}, leaking"]["gain"] = rows[STUDENT]["gain"] + 0.01
    assert "does not help less" in describe_findings(summary)[1]
    save_plot(summary, tmp_path / "study.png")
    assert (tmp_path / "study.png").read_bytes().startswith(b"\x89PNG")


def test_the_grid_changes_one_thing_at_a_time():
    """Each teacher comes before its students, which are taught on days that it has not seen."""
    rows = list_scorers(StudentConfig(seed=7), TeacherConfig(), DistillationConfig(weight=0.3), full=True)
    by_name = {spec.name: spec for spec in rows}
    assert len(by_name) == len(rows)
    for number, spec in enumerate(rows):
        if spec.taught_by is not None:
            assert rows.index(by_name[spec.taught_by]) < number
            assert spec.days == "late" and by_name[spec.taught_by].days == "early"
        if spec.student is not None and TWO_TASKS not in spec.name:
            assert spec.student == by_name[CONTROL].student
    assert by_name[CONTROL_ALL_DAYS].days == "all"
    assert by_name["λ = 0.25"].distillation == dataclasses.replace(by_name[STUDENT].distillation, weight=0.25)
    sharing = {spec.distillation.sharing for spec in rows if spec.distillation is not None}
    assert sharing == {"none", "all", "all_but_user_id"}


def test_the_study_sets_the_teachers_form_itself():
    rows = list_scorers(StudentConfig(), TeacherConfig(form="md"), DistillationConfig(), full=True)
    forms = {spec.name: spec.teacher.form for spec in rows if spec.teacher is not None}
    others = {"teacher, md": "md", "teacher, pfd": "pfd"}
    assert forms == {name: others.get(name, "pfd_md") for name in forms}


def test_two_tasks_are_taught_together():
    rows = list_scorers(StudentConfig(), TeacherConfig(), DistillationConfig(weight=0.3), full=True)
    student = next(spec for spec in rows if spec.taught_by == TWO_TASKS_TEACHER)
    teacher = next(spec for spec in rows if spec.name == TWO_TASKS_TEACHER)
    assert student.student.tasks == teacher.teacher.tasks == TASKS
    (loss,) = student.distillation.losses
    assert loss.form == "multi_target" and len(loss.soft_weights) == len(TASKS)
    assert student.distillation.weight == 0.3


def test_widths_that_cannot_be_shared_are_refused_before_anything_is_trained():
    with pytest.raises(ConfigError, match=r"prerank\.embedding_dim is 32 .*embedding_dim 64: .* Set the two"):
        list_scorers(
            StudentConfig(embedding_dim=32), TeacherConfig(embedding_dim=64), DistillationConfig(), full=False
        )


@pytest.mark.parametrize("seen", [True, False])
def test_the_leaking_rows_need_something_that_leaks(tmp_path, scorers, monkeypatch, seen):
    """Decided by what is kept of the data, which a second run does not open."""
    facts = {"post_event_seen": seen, "train_rows": TRAIN_ROWS, ROWS_FILE: "rows.npz"}
    rng = np.random.default_rng(0)
    users, clicked = np.repeat(np.arange(20), 30), rng.random(600) > 0.5

    def measure(study, result_file, spec, *rest):
        np.save(tmp_path / f"{spec.name}.npy", rng.normal(size=600))
        values = {"auc": 0.6, "gauc": 0.6, "log_loss": 0.6, "best_epoch": 0, "eval_auc": 0.6}
        return {
            "name": spec.name,
            "seed": 1,
            **values,
            "epoch_seconds": [1.0],
            "scores_file": f"{spec.name}.npy",
        }

    def describe(study, result_file):
        study.load_data()
        np.savez(tmp_path / "rows.npz", users=users, clicked=clicked)
        return facts

    monkeypatch.setattr(study_module, "_train_and_measure", measure)
    monkeypatch.setattr(study_module, "_describe_data", describe)
    loads = []
    study = Study(scorers, [1], {}, "", lambda: loads.append(1), lambda *modules: "", tmp_path)
    for _ in range(2):
        results, found = run_study(study, lambda text: None)
        summary = summarize(results, scorers, found, tmp_path)
        names = [row["name"] for row in summary["rows"]]
        assert names == [spec.name for spec in scorers if seen or "leaking" not in spec.name]
        assert len(describe_findings(summary)) == (2 if seen else 1)
    assert loads == [1]


def test_a_feature_of_zeros_was_never_there():
    batches = [
        {"dwell": [[0, 0], [0, 0]], "basket": [[0, 0], [0, 3]]},
        {"dwell": [[0, 0]], "basket": [[0, 0]]},
    ]
    requests = tf.data.Dataset.from_generator(
        lambda: ({ROWS: batch} for batch in batches),
        output_signature={ROWS: dict.fromkeys(batches[0], tf.TensorSpec([None, 2], tf.int64))},
    )
    assert has_values(requests, ["dwell", "basket"])
    assert not has_values(requests, ["dwell"])
    assert not has_values(requests, [])


def winnow(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pipelines.cli", *map(str, arguments)]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=1200
    )


@pytest.mark.slow
def test_distill_study_and_scoring_end_to_end(tmp_path):
    """On a world of a few thousand rows; a second run reads what the first one measured."""
    simulate(
        MarketplaceConfig(num_users=80, num_items=200, num_shops=60, num_days=6, seed=3), tmp_path / "log"
    )
    config = tmp_path / "config.yaml"
    config.write_text(
        "prerank: {max_epochs: 1, embedding_dim: 8, output_dim: 8, disabled_groups: [text, time]}\n"
        "prerank_teacher:\n"
        "  {max_epochs: 2, embedding_dim: 8, deep_dims: [8], disabled_groups: [text, time],\n"
        "   batch_size: 32, learning_rate: 0.01, weight_averaging: 0.5}\n"
        "ranking: {disabled_groups: [text, time]}\n"  # it has the same teacher
    )
    common = ("--events", "log", "--root", "root", "--config", config, "--json")
    first = winnow(tmp_path, "distill-study", *common, "--seeds", 1, "--plot", "study.png")
    assert first.returncode == 0, first.stderr
    summary = json.loads(first.stdout.splitlines()[-1])
    rows = {row["name"]: row for row in summary["rows"]}
    assert {CONTROL, TEACHER, STUDENT} <= rows.keys()
    assert all(0.0 < row["auc_mean"] <= 1.0 and row["cost_ratio"] > 0 for row in rows.values())
    assert rows[LEAKING_TEACHER]["auc_mean"] > 0.99
    assert 0.7 < summary["protocol"]["oracle_auc"] < 0.9 and summary["protocol"]["synthetic"]
    assert (tmp_path / "study.png").stat().st_size > 10_000
    second = winnow(tmp_path, "distill-study", *common, "--seeds", 1)
    assert second.returncode == 0 and json.loads(second.stdout.splitlines()[-1]) == summary
    assert second.stderr.count("measured before") == len(rows)

    scoring = winnow(tmp_path, "bench", "prerank-scoring", *common, "--candidates", 300, "--rounds", 3)
    assert scoring.returncode == 0, scoring.stderr
    result = json.loads(scoring.stdout.splitlines()[-1])
    assert result["candidates"] == 300 and result["ratio"] > 0
    few = winnow(tmp_path, "bench", "prerank-scoring", *common, "--candidates", 10**6)
    assert few.returncode == 1 and "expected 1,000,000" in few.stderr
    assert "Traceback" not in few.stderr

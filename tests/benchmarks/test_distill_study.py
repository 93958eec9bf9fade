import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.prerank.models import (
    CONTROL,
    CONTROL_ALL_DAYS,
    JOINT_ALL_BUT_USER_ID,
    LEAKING_TEACHER,
    STUDENT,
    TEACHER,
    list_scorers,
)
from benchmarks.prerank.plot import save_plot
from benchmarks.prerank.report import describe_findings, print_report
from benchmarks.prerank.study import ROWS_FILE, Measured
from benchmarks.prerank.summary import summarize
from components.prerank_evaluator.metrics import compute_auc
from sources.marketplace import MarketplaceConfig, simulate
from trainers.prerank.config import DistillationConfig, StudentConfig, TeacherConfig

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
                    eval_auc=0.6,
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
        if spec.student is not None:
            assert spec.student == by_name[CONTROL].student
    assert by_name[CONTROL_ALL_DAYS].days == "all"
    assert by_name["λ = 0.25"].distillation == dataclasses.replace(by_name[STUDENT].distillation, weight=0.25)
    sharing = {spec.distillation.sharing for spec in rows if spec.distillation is not None}
    assert sharing == {"none", "all", "all_but_user_id"}


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
        "prerank: {max_epochs: 1, embedding_dim: 8, output_dim: 8}\n"
        "prerank_teacher: {max_epochs: 1, embedding_dim: 8, deep_dims: [8]}\n"
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

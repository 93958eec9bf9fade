import collections
import dataclasses
import json
import math
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.ranking.models import DIEN, DIN, NONE, list_rankers
from benchmarks.ranking.plot import save_plot
from benchmarks.ranking.report import describe_findings, describe_protocol, print_explanation, print_report
from benchmarks.ranking.study import ROWS_FILE, Measured, Study, run_study
from benchmarks.ranking.summary import summarize
from components.score_evaluation.metrics import compute_auc
from pipelines import cli
from sources.marketplace import MarketplaceConfig, simulate
from trainers.ranking.config import RankerConfig
from trainers.scorers.rows import NoRowsError

ROOT = Path(__file__).parents[2]
FORMS = ["gru", "aigru", "agru", "augru"]
NAMES = [NONE, DIN, *FORMS, *(f"{form}+aux" for form in FORMS)]
FACTS = {
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


def make_measured(folder, spec, seed, clicked, scores, **changes):
    """One result, and its scores beside it."""
    name = f"{spec.name}-{seed}.npy"
    np.save(folder / name, np.asarray(scores, np.float32))
    values = {
        "auc": compute_auc(clicked, np.asarray(scores)),
        "gauc": 0.5,
        "log_loss": 0.6,
        "best_epoch": 1,
        "eval_auc": 0.6,
        "rows_per_second": 1000.0 * seed,
        "train_rows": 5000,
    }
    return Measured(name=spec.name, seed=seed, scores_file=name, **{**values, **changes})


@pytest.fixture
def summarize_seeds(tmp_path):
    """(seeds, full) -> the summary of 20 users, whose scores know the more the later the row."""

    def make(seeds, full=False):
        rng = np.random.default_rng(0)
        users, truth = np.repeat(np.arange(20), 30), rng.normal(size=600)
        clicked = truth + rng.normal(size=600) > 0.5
        np.savez(tmp_path / "rows.npz", users=users, clicked=clicked)
        rankers = list_rankers(RankerConfig(), full=full)
        results = [
            make_measured(tmp_path, spec, seed, clicked, truth * number + 9.0 * rng.normal(size=600))
            for seed in seeds
            for number, spec in enumerate(rankers)
        ]
        return summarize(results, rankers, FACTS, tmp_path)

    return make


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    "config", [RankerConfig(), RankerConfig(attention="bilinear", activation="dice", num_negatives=1)]
)
def test_every_row_trains_something_of_its_own(config, full):
    rankers = list_rankers(config, full=full)
    assert [spec.name for spec in rankers][: len(NAMES)] == NAMES
    assert len(rankers) > len(NAMES) if full else len(rankers) == len(NAMES)
    assert len({spec.name for spec in rankers}) == len({spec.config for spec in rankers}) == len(rankers)
    by_name = {spec.name: spec.config for spec in rankers}
    assert by_name[DIEN] == dataclasses.replace(config, interest="augru")
    assert not any(by_name[name].has_auxiliary_loss for name in (NONE, DIN, *FORMS))
    assert all(by_name[f"{form}+aux"].has_auxiliary_loss for form in FORMS)


def test_a_configuration_without_the_auxiliary_loss_or_with_a_booster_is_compared_as_any_other():
    rankers = list_rankers(RankerConfig(auxiliary_weight=0.0, booster_units=108, units=20), full=False)
    by_name = {spec.name: spec.config for spec in rankers}
    assert by_name[DIEN].auxiliary_weight == RankerConfig().auxiliary_weight
    assert {spec.config.booster_units for spec in rankers} == {None}
    assert {spec.config.units for spec in rankers} == {20}


def test_means_and_errors_by_hand(tmp_path):
    """Two clicked rows and two others make four pairs: DIN has 2 and 3 of them right, DIEN 3 and 4.

    That is .25 more on average. Either variance is .25² / 2, so that the standard error of the
    difference is √(2 · .25² / 2 / 2) = .25 / √2.
    """
    clicked = np.array([True, False, True, False])
    np.savez(tmp_path / "rows.npz", users=np.array([0, 0, 1, 1]), clicked=clicked)
    none, din, *_, dien = list_rankers(RankerConfig(), full=False)
    scores = {
        none.name: ([0, 0, 0, 0], [0, 0, 0, 0]),
        din.name: ([1, 0, 2, 3], [3, 2, 1, 0]),
        dien.name: ([3, 2, 1, 0], [3, 1, 2, 0]),
    }
    results = [
        make_measured(tmp_path, spec, seed, clicked, scores[spec.name][seed - 1], gauc=0.4 + 0.1 * seed)
        for seed in (1, 2)
        for spec in (none, din, dien)
    ]
    summary = summarize(results, (none, din, dien), FACTS, tmp_path)
    rows = {row["name"]: row for row in summary["rows"]}
    assert [rows[x]["auc_mean"] for x in (NONE, DIN, DIEN)] == [0.5, 0.625, 0.875]
    assert [rows[x]["auc_sd"] for x in (DIN, DIEN)] == pytest.approx([0.25 / math.sqrt(2)] * 2)
    assert rows[DIEN]["gain"] == pytest.approx(0.25)
    assert rows[DIEN]["gain_low"] <= 0.25 <= rows[DIEN]["gain_high"]
    assert rows[DIEN]["gain_errors"] == pytest.approx(math.sqrt(2))
    assert rows[NONE]["gain_errors"] == pytest.approx(-0.125 / (0.25 / 2))  # it has no variance of its own
    assert [rows[DIN][x] for x in ("gain", "gain_low", "gain_high", "gain_errors")] == [None] * 4
    assert rows[DIN]["gauc_mean"] == pytest.approx(0.55)
    assert rows[DIN]["gauc_sd"] == pytest.approx(0.1 / math.sqrt(2))
    assert rows[DIN]["rows_per_second"] == 1500.0
    assert summary["protocol"]["seeds"] == [1, 2] and summary["protocol"]["train_rows"] == 5000


def test_one_seed_says_nothing_of_the_spread(summarize_seeds, capsys):
    summary = summarize_seeds([1])
    for row in summary["rows"]:
        assert row["auc_sd"] is row["gauc_sd"] is row["gain_errors"] is None
        assert row["gain"] is None or row["gain_low"] < row["gain"] < row["gain_high"]
    print_report("", summary)
    assert "±" not in capsys.readouterr().out


@pytest.mark.parametrize("full", [False, True])
def test_the_report_fits_80_columns_and_says_what_is_synthetic(summarize_seeds, tmp_path, capsys, full):
    summary = summarize_seeds([1, 2, 3], full)
    print_report(f"made up: {describe_protocol(summary['protocol'])}", summary)
    print_explanation()
    printed = capsys.readouterr().out
    assert "synthetic" in printed and "split by time, seeds 1, 2, 3" in " ".join(printed.split())
    lines = printed.splitlines()
    assert not [row["name"] for row in summary["rows"] if row["name"].split(", ")[0] not in printed]
    assert ("gates the old state" in printed) == full
    assert "…" not in printed and max(map(len, lines)) <= 80
    save_plot({"made up": summary, "another": summary}, tmp_path / "study.png")
    assert (tmp_path / "study.png").read_bytes().startswith(b"\x89PNG")


def test_the_best_form_is_found_on_the_evaluation_split(summarize_seeds):
    summary = summarize_seeds([1, 2])
    rows = {row["name"]: row for row in summary["rows"]}
    for number, name in enumerate(NAMES):
        rows[name] |= {"eval_auc_mean": 0.9 - 0.1 * (name != "agru") + 0.2 * (number < 2), "gain": 0.01}
    rows[DIN] |= {"auc_mean": 0.7, "gain": None}
    rows[NONE]["auc_mean"] = 0.66
    rows["agru"]["gain"], rows[DIEN]["gain"] = -0.002, 0.03
    first, ceiling = describe_findings(summary)
    assert "augru+aux over din: +3.00 points" in first and "agru, -0.20 on the test split" in first
    assert "A history is worth +4.00 points to din" in first
    assert "AUC 0.9000" in ceiling
    summary["protocol"]["oracle_auc"] = None
    assert len(describe_findings(summary)) == 1


class Data:
    """Rows whose scores are right from the start; counts how often it is opened."""

    opened = 0

    def __init__(self):
        Data.opened += 1
        self.test_rows = types.SimpleNamespace(
            users=np.array([0, 0, 1, 1]), clicked=np.array([True, False, True, False])
        )

    def read(self, config):
        return types.SimpleNamespace(num_rows=600, config=config)

    def score(self, scorer, training):
        assert scorer == training.config.interest
        return np.array([1.0, 0.0, 1.0, 0.0])

    def measure(self, scores):
        return {"auc": compute_auc(self.test_rows.clicked, scores), "gauc": 1.0, "log_loss": 0.3}

    def describe(self):
        return {"test_rows": 4, "oracle_auc": None}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """(seeds, code) -> results, facts and what was trained, as (interest, auxiliary loss?, seed)."""
    trained = []

    def train(config, training):
        trained.append((config.interest, config.has_auxiliary_loss, config.seed))
        return types.SimpleNamespace(
            scorer=config.interest,
            best_epoch=1,
            history={"val_auc": [0.5, 0.75, 0.6]},
            epoch_seconds=[60.0, 1.0, 3.0],
        )

    monkeypatch.setattr("trainers.ranking.train.train_ranker", train)
    monkeypatch.setattr(Data, "opened", 0)

    def run(seeds, code="a"):
        trained.clear()
        said = []
        study = Study(
            rankers=list_rankers(RankerConfig(), full=False),
            seeds=seeds,
            data_key={"log": 1},
            machine="",
            load_data=Data,
            fingerprint=lambda *modules: code,
            folder=tmp_path / "study",
        )
        results, facts = run_study(study, said.append)
        assert len(said) == len(results) == len(NAMES) * len(seeds)
        assert sum("measured before" in text for text in said) == len(results) - len(trained)
        return results, facts, list(trained)

    return run


def test_a_study_goes_on_where_it_stopped(run, tmp_path):
    first, facts, trained = run([1])
    assert trained == [(n.removesuffix("+aux"), "+aux" in n, 1) for n in NAMES]
    assert {(x.auc, x.eval_auc, x.best_epoch, x.rows_per_second) for x in first} == {(1.0, 0.75, 1, 300.0)}
    with np.load(tmp_path / "study" / facts[ROWS_FILE]) as rows:
        assert rows["users"].tolist() == [0, 0, 1, 1] and rows["clicked"].tolist() == [1, 0, 1, 0]

    opened = Data.opened
    assert run([1]) == (first, facts, [])
    assert Data.opened == opened

    both, _, trained = run([1, 2])
    assert both[: len(NAMES)] == first and {seed for *_, seed in trained} == {2}
    summary = summarize(both, list_rankers(RankerConfig(), full=False), facts, tmp_path / "study")
    assert {row["gain_errors"] for row in summary["rows"]} == {None}  # no variance, no errors

    assert len(run([1], code="b")[2]) == len(NAMES)


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "events"
    simulate(MarketplaceConfig(num_users=20, num_items=100, num_shops=60, num_days=4), path)
    return path


@pytest.fixture
def call(tmp_path, events, monkeypatch):
    """Runs the command with a configuration; of the pipeline, the nodes alone are left out."""
    metadata = types.SimpleNamespace(
        outputs=lambda node: collections.defaultdict(lambda: types.SimpleNamespace(uri=""))
    )
    monkeypatch.setattr("pipelines.local_runner.run_pipeline", lambda *_, **__: metadata)

    def call(config=""):
        (tmp_path / "config.yaml").write_text(config)
        common = ("--events", events, "--root", tmp_path / "root", "--config", tmp_path / "config.yaml")
        return CliRunner().invoke(cli.app, ["ablate", "ranking", *map(str, common)])

    return call


def test_data_that_does_not_do_is_told_in_a_line(call, monkeypatch):
    def fail(*_, **__):
        raise NoRowsError("the test split holds no row")

    monkeypatch.setattr("benchmarks.ranking.data.LogRows", fail)
    result = call()
    assert isinstance(result.exception, SystemExit) and result.exit_code == 1
    assert "winnow: the test split holds no row\nThe whole story: " in result.output
    assert "Traceback" not in result.output


def test_what_cannot_be_is_refused_before_anything_is_written(call, tmp_path):
    result = call("ranking: {interest: gnu}")
    assert isinstance(result.exception, cli._expected_errors())
    assert "ranking.interest" in str(result.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def winnow(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pipelines.cli", *map(str, arguments)]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=1800
    )


@pytest.mark.slow
def test_ablate_ranking_end_to_end(tmp_path):
    """On a world of a few thousand rows; a second run reads what the first one measured."""
    simulate(
        MarketplaceConfig(num_users=80, num_items=200, num_shops=60, num_days=6, seed=3), tmp_path / "log"
    )
    config = tmp_path / "config.yaml"
    config.write_text(
        "ranking:\n"
        "  {max_epochs: 2, embedding_dim: 8, units: 8, attention_dims: [8], product_dim: 4, head_dims: [8],\n"
        "   batch_size: 128, disabled_groups: [text, time]}\n"
    )
    common = ("--events", "log", "--root", "root", "--config", config, "--json")
    first = winnow(tmp_path, "ablate", "ranking", *common, "--seeds", 1, "--plot", "study.png")
    assert first.returncode == 0, first.stderr
    summary = json.loads(first.stdout.splitlines()[-1])
    assert [row["name"] for row in summary["rows"]] == NAMES
    for row in summary["rows"]:
        assert {"auc_mean", "auc_sd", "gauc_mean", "rows_per_second"} <= row.keys()
        assert 0.0 < row["auc_mean"] < 1.0 and 0.0 < row["gauc_mean"] < 1.0
        assert row["auc_sd"] is None and row["rows_per_second"] > 0
    assert 0.7 < summary["protocol"]["oracle_auc"] < 0.9 and summary["protocol"]["synthetic"]
    assert "synthetic" in first.stdout
    assert (tmp_path / "study.png").stat().st_size > 10_000
    second = winnow(tmp_path, "ablate", "ranking", *common, "--seeds", 1)
    assert second.returncode == 0 and json.loads(second.stdout.splitlines()[-1]) == summary
    assert second.stderr.count("measured before") == len(NAMES)

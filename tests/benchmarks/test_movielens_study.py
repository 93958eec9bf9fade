"""The two MovieLens benchmarks from the data set to the JSON, and what is kept between runs."""

from pipelines import tensorflow_setup  # noqa: F401, I001  (before TensorFlow)

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.movielens.baselines import build_ease, build_popularity
from benchmarks.movielens.data import HeldOutData, mean_metrics
from benchmarks.movielens.models import is_leaking, list_models
from benchmarks.movielens.plot import save_plot
from benchmarks.movielens.protocols import LAST_OUT, RANDOM_SPLIT
from benchmarks.movielens.ratings import MovieLens, Ratings, read_movielens
from benchmarks.movielens.report import print_report
from benchmarks.movielens.settings import Settings
from benchmarks.movielens.summary import compare, nest, summarize
from benchmarks.movielens.tutorials import build_context_tutorial, build_tutorial
from benchmarks.movielens.winnow_model import train_winnow
from benchmarks.results import ResultStore
from benchmarks.retrieval.study import Study, run_study
from trainers.retrieval.config import RetrievalConfig

ROOT = Path(__file__).parents[2]
TOY = Settings(
    RetrievalConfig(
        embedding_dim=16,
        output_dim=16,
        num_uniform_negatives=60,
        batch_size=16,
        max_epochs=3,
        learning_rate=2e-2,
    ),
    history_size=10,
    query_history_size=20,
)
# Three kinds of users, who watch twelve of their kind's twenty films in order, each from another one on.
LINES = [(user, user % 3 * 20 + (user + n) % 20, 1000 * n + user) for user in range(60) for n in range(12)]


@pytest.fixture(scope="module")
def movielens():
    users = pd.DataFrame({"user_id": [f"u{n}" for n in range(60)]})
    items = pd.DataFrame(
        {"title": [f"Film {n}" for n in range(60)], "release_year": 1990, "genres": [["Drama"]] * 60}
    )
    return MovieLens("toy", Ratings(*np.array(LINES, np.int64).T), users, items)


def test_winnow_finds_the_next_film(movielens):
    data = HeldOutData(movielens, LAST_OUT)
    scorer = train_winnow(data, data.test, TOY, 1, with_time=False)
    means = mean_metrics(data.measure(scorer, "test"))
    ease = mean_metrics(data.measure(build_ease(data, [10.0])[0], "test"))
    assert means["ndcg_10"] > max(0.8, ease["ndcg_10"])  # who knows no order cannot tell the last films


def test_with_time_a_users_scores_change_with_it(movielens):
    data = HeldOutData(movielens, RANDOM_SPLIT)
    settings = dataclasses.replace(
        TOY, towers=dataclasses.replace(TOY.towers, mask_clicked=False, max_epochs=1)
    )
    scorer = train_winnow(data, data.test, settings, 1, with_time=True)
    scores = scorer.score(np.array([0, 1, 0]), np.array([5000, 5000, 900]))
    assert scores.shape == (3, 60)
    assert scores[0] != pytest.approx(scores[2])


@pytest.fixture
def models():
    """The real table; in place of Winnow's model and the tutorials', popularity that costs nothing."""
    return [
        dataclasses.replace(model, build=lambda data, seed: (build_popularity(data), {"epochs": seed}))
        if model.is_seeded
        else model
        for model in list_models(RANDOM_SPLIT)
    ]


def make_study(models, movielens, seeds=(1, 2)):
    loads = []

    def load():
        loads.append(1)
        return HeldOutData(movielens, RANDOM_SPLIT)

    key = {"ratings": movielens.fingerprint()}
    fingerprint = lambda *modules: "+".join(modules)  # noqa: E731
    data_module = "benchmarks.movielens.data"
    study = Study(models, seeds, key, "a machine", load, fingerprint, data_module, RANDOM_SPLIT.choose_by)
    return study, loads


def test_a_second_run_builds_nothing_and_the_json_has_its_form(movielens, models, tmp_path, capsys):
    store = ResultStore(tmp_path / "results")
    results, facts = run_study(make_study(models, movielens)[0], store, print)
    study, loads = make_study(models, movielens)
    assert run_study(study, store, print) == (results, facts)
    assert not loads

    protocol = {**facts, "name": RANDOM_SPLIT.name, "machine": "a machine"}
    summary = summarize(results, protocol)
    for name in ("winnow", "tutorial", "popularity", "ease", "winnow_timestamp", "tutorial_timestamp"):
        for seen in ("removed", "kept"):
            assert set(summary[name][seen]) == {"top_10", "top_100"}
            assert all(0 <= value <= 1 for value in summary[name][seen].values())
    assert summary["ease"]["removed"]["top_10"] > summary["popularity"]["removed"]["top_10"]
    assert summary["winnow"] == {**summary["popularity"], "seconds": summary["winnow"]["seconds"]}
    assert summary["comparisons"]["popularity"]["kept"]["top_10"] == {"difference": 0, "low": 0, "high": 0}
    assert summary["protocol"]["chosen_on_validation"]["winnow"] == [{"epochs": 1}, {"epochs": 2}]
    json.dumps(summary, allow_nan=False)
    print_report(summary, models)
    printed = capsys.readouterr().out
    assert "leaking\n" in printed.replace(" ", "")
    assert "LEAKS" in printed
    assert [model.name for model in models if is_leaking(model)] == ["winnow_timestamp", "tutorial_timestamp"]
    save_plot(summary, models, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_one_seed_has_no_deviation(movielens, models, tmp_path, capsys):
    results, facts = run_study(make_study(models, movielens, seeds=(1,))[0], ResultStore(tmp_path), print)
    for name in (RANDOM_SPLIT.name, LAST_OUT.name):
        summary = summarize(results, {**facts, "name": name, "machine": "a machine"})
        assert summary["winnow"]["sd"]["removed"] == {"top_10": None, "top_100": None}
        capsys.readouterr()
        print_report(summary, models)
        printed = capsys.readouterr().out
        assert "±" not in printed and ", 1 seed." in printed
        save_plot(summary, models, tmp_path / "plot.png")


def test_settings_are_chosen_on_the_validation_part_alone(movielens):
    """The test part's ratings are replaced by others: the choice stays."""
    data = HeldOutData(movielens, RANDOM_SPLIT)
    l2s = [1.0, 10.0, 1000.0]
    _, chosen = build_ease(data, l2s)
    data.test = dataclasses.replace(data.test, asked=data.test.asked.take(np.arange(3)))
    assert build_ease(data, l2s)[1] == chosen
    assert chosen["l2"] in l2s


def test_the_tutorials_models_learn_and_only_one_knows_the_time(movielens):
    data = HeldOutData(movielens, RANDOM_SPLIT)
    users = np.array([0, 1, 0])
    for build, knows_time in ((build_tutorial, False), (build_context_tutorial, True)):
        scores = build(data, 1).score(users, np.array([0, 0, 11000]))
        assert scores.shape == (3, 60)
        assert np.isfinite(scores).all()
        assert (scores[0] == pytest.approx(scores[2])) == (not knows_time)


def test_comparison_by_hand():
    ours = pd.DataFrame({"user_id": ["a", "b"], "queries": [1.0, 3.0], "recall_10": [1.0, 0.5]})
    theirs = pd.DataFrame({"user_id": ["a", "b"], "queries": [1.0, 3.0], "recall_10": [0.0, 0.3]})
    compared = compare([ours], [theirs])["recall_10"]
    assert compared["difference"] == pytest.approx((1 + 3 * 0.2) / 4)
    # Drawn twice the same user, or both.
    assert (compared["low"], compared["high"]) == (pytest.approx(0.2), pytest.approx(1.0))


def test_metrics_are_nested_by_what_is_removed():
    assert nest({"removed_top_10": 1, "kept_top_10": 2, "recall_10": 3}) == {
        "removed": {"top_10": 1},
        "kept": {"top_10": 2},
        "recall_10": 3,
    }


@pytest.fixture
def folder(tmp_path):
    """The same toy as the files of a data set."""
    src = tmp_path / "ml"
    src.mkdir()
    lines = [f"{user + 1},{item + 1},4.0,{10**9 + time}" for user, item, time in LINES]
    (src / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "\n".join(lines) + "\n")
    films = [f"{n + 1},Film {n} (1990),Drama" for n in range(60)]
    (src / "movies.csv").write_text("movieId,title,genres\n" + "\n".join(films) + "\n")
    return src


def test_films_without_years_and_genres_can_be_learnt(folder):
    films = [f"{n + 1},Film {n},(no genres listed)" for n in range(60)]
    (folder / "movies.csv").write_text("movieId,title,genres\n" + "\n".join(films) + "\n")
    data = HeldOutData(read_movielens(folder), LAST_OUT)
    towers = dataclasses.replace(TOY.towers, max_epochs=1)
    scorer = train_winnow(data, data.test, dataclasses.replace(TOY, towers=towers), 1, with_time=False)
    assert np.isfinite(scorer.score(np.array([0]), np.array([0]))).all()


@pytest.mark.slow
@pytest.mark.parametrize("protocol", [RANDOM_SPLIT, LAST_OUT])
def test_bench_end_to_end(folder, tmp_path, protocol):
    command = [sys.executable, "-m", "pipelines.cli", "bench", protocol.name, "--data", str(folder), "--json"]
    command += ["--root", str(tmp_path / "root"), "--seeds", "1", "--plot", str(tmp_path / "plot.png")]

    def run():
        result = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "COLUMNS": "120", "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result

    first, second = run(), run()
    assert second.stdout == first.stdout
    models = list_models(protocol)
    assert second.stderr.count("measured before") == len(models)
    summary = json.loads(first.stdout.splitlines()[-1])
    assert {model.name for model in models} < set(summary)
    assert "tensorflow" in summary["protocol"]["machine"]
    assert (tmp_path / "plot.png").exists()

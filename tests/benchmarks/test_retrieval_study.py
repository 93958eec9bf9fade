import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.results import ResultStore
from benchmarks.retrieval.item_models import Ease, ItemKnn
from benchmarks.retrieval.models import WINNOW, ModelSpec, list_models
from benchmarks.retrieval.plot import save_plot
from benchmarks.retrieval.report import print_report
from benchmarks.retrieval.score_rankers import FunctionRanker
from benchmarks.retrieval.selection import choose_item_model
from benchmarks.retrieval.study import Study, run_study
from benchmarks.retrieval.summary import TABLE_METRICS, compare, summarize
from benchmarks.retrieval.tutorial import train_tutorial_model
from sources.marketplace import MarketplaceConfig, Oracle, simulate
from trainers.retrieval.config import RetrievalConfig

ROOT = Path(__file__).parents[2]
PROTOCOL = {"source": "blocks", "synthetic": True, "seen_removed": True, "machine": "a machine"}


def build_noisy_popularity(data, seed):
    """A seeded model that costs nothing to build."""
    noise = np.random.default_rng(seed).random(len(data.catalogue))
    return FunctionRanker(lambda batch: np.tile(noise, (len(batch.users), 1)), data.popularity_ranks), {}


@pytest.fixture
def models():
    """The real baselines; in Winnow's place, which needs a Transform graph, something seeded."""
    stand_in = ModelSpec(WINNOW, build_noisy_popularity, (), is_seeded=True)
    return [stand_in, *list_models(RetrievalConfig(), 10, has_oracle=False)[1:]]


def make_study(models, data, seeds=(1, 2), fingerprint=lambda *modules: "+".join(modules)):
    loads = []

    def load():
        loads.append(1)
        return data

    return Study(models, seeds, {"events": "blocks"}, "a machine", load, fingerprint), loads


def read_files(folder):
    return {path.name: (path.stat().st_mtime_ns, path.read_text()) for path in folder.iterdir()}


def test_every_baseline_runs_and_a_second_run_builds_nothing(blocks, models, tmp_path, capsys):
    store = ResultStore(tmp_path / "results")
    study, loads = make_study(models, blocks)
    results, facts = run_study(study, store, print)
    before = read_files(tmp_path / "results")

    assert len(results) == len(before) - 1 == 9  # seven models, two of them twice; and the facts
    assert loads
    again, loads = make_study(models, None)
    lines = []
    assert run_study(again, store, lines.append) == (results, facts)
    assert not loads
    assert read_files(tmp_path / "results") == before
    assert all("measured before" in line for line in lines)

    means = {result.model: np.mean(result.users["ndcg_10"]) for result in results}
    assert means["item-kNN"] == means["EASE"] == 1.0
    assert means["popularity"] < 0.5
    summary = summarize(results, {**PROTOCOL, **facts})
    assert summary["random"]["all"]["recall_10"] == {"mean": pytest.approx(10 / 24), "sd": 0.0}
    assert summary["EASE"]["known_users"]["recall_10"] == {"mean": None, "sd": None}  # all are new
    assert set(summary["comparisons"]) == {model.name for model in models[1:]}
    json.dumps(summary, allow_nan=False)
    print_report(summary, models)
    out = capsys.readouterr().out
    assert "SYNTHETIC" in out and out.endswith("a machine\n")
    save_plot(summary, models, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_more_seeds_and_other_code_measure_only_what_is_new(blocks, models, tmp_path):
    store = ResultStore(tmp_path / "results")
    models = [models[0], models[1]]
    run_study(make_study(models, blocks)[0], store, print)
    before = read_files(tmp_path / "results")

    run_study(make_study(models, blocks, seeds=(1, 2, 3))[0], store, print)
    after = read_files(tmp_path / "results")
    assert len(after) == len(before) + 1
    assert {name: after[name] for name in before} == before

    other_settings = [dataclasses.replace(models[0], settings={"depth": 9}), models[1]]
    run_study(make_study(other_settings, blocks)[0], store, print)
    assert len(read_files(tmp_path / "results")) == len(after) + 2
    run_study(make_study(models, blocks, fingerprint=lambda *_: "edited")[0], store, print)
    assert len(read_files(tmp_path / "results")) == len(after) + 2 + 4


def test_another_machine_measures_all_anew(blocks, models, tmp_path):
    store = ResultStore(tmp_path / "results")
    study, _ = make_study(models[:2], blocks)
    run_study(study, store, print)
    before = read_files(tmp_path / "results")
    run_study(dataclasses.replace(study, machine="a machine, tensorflow 3"), store, print)
    assert len(read_files(tmp_path / "results")) == 2 * len(before)


def test_one_seed_has_no_deviation(blocks, models, tmp_path, capsys):
    results, facts = run_study(make_study(models, blocks, seeds=(1,))[0], ResultStore(tmp_path), print)
    summary = summarize(results, {**PROTOCOL, **facts})
    assert summary[WINNOW]["all"]["recall_10"]["sd"] is None
    assert summary["comparisons"]["EASE"]["recall_10"]["sd_over_seeds"] is None
    capsys.readouterr()
    print_report(summary, models)
    printed = capsys.readouterr().out
    assert "±" not in printed and "sd over seeds" not in printed and "; 1 seed where" in printed
    save_plot(summary, models, tmp_path / "plot.png")


def test_a_result_that_fails_leaves_nothing(tmp_path):
    store = ResultStore(tmp_path / "results")
    with pytest.raises(ZeroDivisionError):
        store.fetch({"model": "a"}, lambda: {"value": 1 // 0})
    assert not (tmp_path / "results").exists()
    assert store.fetch({"model": "a"}, lambda: {"value": 1}) == ({"value": 1}, False)
    assert store.fetch({"model": "a"}, dict) == ({"value": 1}, True)
    assert [path.suffix for path in (tmp_path / "results").iterdir()] == [".json"]


def test_settings_are_chosen_on_the_eval_split(blocks):
    # One neighbour cannot tell the item left out from those in the history; seven can.
    ranker, chosen = choose_item_model([ItemKnn(1, 0.0), ItemKnn(7, 0.0)], blocks, "ndcg_10")
    assert chosen["neighbours"] == 7
    assert chosen["eval"]["ndcg_10"] == blocks.measure(ranker, "eval")["ndcg_10"].mean()
    _, chosen = choose_item_model([Ease(1.0), Ease(2.0)], blocks, "recall_100")
    assert chosen["l2"] == 1.0  # the first of equals


def test_the_tutorial_model_learns_known_users_and_ignores_new_ones():
    users = np.repeat([b"a", b"b"], 400).astype(object)
    items = np.tile([b"i0", b"i1", b"i2", b"i3"], 200).astype(object)
    items[:400], items[400:] = np.tile([b"i0", b"i1"], 200), np.tile([b"i2", b"i3"], 200)
    catalogue = np.array([b"i0", b"i1", b"i2", b"i3"], object)

    @dataclasses.dataclass
    class Asked:
        users: np.ndarray

    batch = Asked(np.array([b"a", b"b", b"new", b"other"], object))
    scores = train_tutorial_model(users, items, catalogue, seed=1).score(batch)

    assert scores.shape == (4, 4)
    assert scores[0, :2].min() > scores[0, 2:].max()
    assert scores[1, 2:].min() > scores[1, :2].max()
    assert (scores[2] == scores[3]).all()  # both are out of vocabulary
    assert (train_tutorial_model(users, items, catalogue, seed=1).score(batch) == scores).all()
    assert (train_tutorial_model(users, items, catalogue, seed=2).score(batch) != scores).any()


def test_comparison_by_hand():
    def table(*recalls):
        return pd.DataFrame(dict.fromkeys(TABLE_METRICS, recalls))

    comparison = compare([table(0.5, 0.1), table(0.7, 0.3)], [table(0.2, 0.2)])["recall_10"]

    # Seeds averaged: 0.6 and 0.2; differences 0.4 and 0. Of the seeds: 0.1 and 0.3.
    assert comparison["difference"] == pytest.approx(0.2)
    assert (comparison["low"], comparison["high"]) == pytest.approx((0.0, 0.4))
    assert comparison["sd_over_seeds"] == pytest.approx(0.2 / 2**0.5)


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    out = tmp_path_factory.mktemp("market") / "log"
    config = MarketplaceConfig(
        num_users=120, num_items=300, num_shops=60, num_days=4, requests_per_user_day=3.0
    )
    simulate(config, out)
    return out


@pytest.mark.parametrize("with_exposure", [True, False])
def test_the_oracle_scores_the_catalogue_in_its_order(market, make_data, with_exposure):
    from benchmarks.retrieval.oracle_ranker import OracleRanker

    oracle = Oracle(market)
    at = 1704067200000 + 3 * 86_400_000  # the last day
    items = [str(item) for item in oracle.item_ids[::-1]] + ["foreign"]
    data = make_data(
        {"train": [("u000001", "i000001", at - 5, [])], "test": [("u000002", "i000003", at, [])]}, items
    )
    ranker = OracleRanker(market, data.popularity_ranks, with_exposure=with_exposure)
    (batch,) = data.queries("test")
    scores = ranker.score(batch)

    truth = (oracle.retrieval_scores if with_exposure else oracle.relevance)(
        ["u000002"], np.array([at], "datetime64[ms]")
    )
    by_id = dict(zip(oracle.item_ids, truth[0], strict=True))
    assert scores[0].tolist() == [by_id.get(item.decode(), -np.inf) for item in data.catalogue.ids]


@pytest.mark.slow
def test_bench_retrieval_end_to_end(market, tmp_path):
    config = tmp_path / "small.yaml"
    config.write_text("retrieval: {max_epochs: 1, num_uniform_negatives: 64}\n")
    command = [sys.executable, "-m", "pipelines.cli", "bench", "retrieval", "--events", str(market)]
    command += ["--config", str(config), "--root", str(tmp_path / "root"), "--seeds", "2", "--json"]
    command += ["--plot", str(tmp_path / "plot.png")]
    environment = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1"}

    def run():
        result = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
        return result

    first = run()
    files = read_files(tmp_path / "root" / "bench" / "retrieval")
    second = run()

    summary = json.loads(first.stdout.splitlines()[-1])
    assert second.stdout == first.stdout
    assert read_files(tmp_path / "root" / "bench" / "retrieval") == files
    assert "SYNTHETIC" in first.stdout
    assert summary["protocol"]["synthetic"] is True
    assert summary["protocol"]["seen_removed"] is True
    assert summary["protocol"]["seeds"] == [1, 2]
    machine = summary["protocol"]["machine"]
    assert "Python 3.10" in machine and "tensorflow 2" in machine
    assert machine in " ".join(first.stdout.splitlines()[:-1])
    assert summary[WINNOW]["all"]["recall_100"]["sd"] > 0
    assert summary["oracle"]["all"]["recall_100"]["mean"] > summary["popularity"]["all"]["recall_100"]["mean"]
    assert second.stderr.count("measured before") == len(files) - 1
    assert (tmp_path / "plot.png").exists()

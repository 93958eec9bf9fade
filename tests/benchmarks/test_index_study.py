import dataclasses
import json
import os
import threading
import types

import matplotlib.pyplot as plt
import numpy as np
import pytest

from benchmarks.index import engines, study, timing
from benchmarks.index.baselines import Faiss, Hnsw, list_nprobe
from benchmarks.index.data import (
    DEPTH,
    DIMENSIONS,
    DISTRIBUTIONS,
    NUM_CENTRES,
    Asked,
    compute_recalls,
    find_exactly,
    make_search_data,
    sample_clustered,
    sample_isotropic,
    sample_spectrum,
)
from benchmarks.index.engines import ENGINES, SERVED, Variant, list_variants
from benchmarks.index.plot import _draw_curves, save_plot
from benchmarks.index.report import print_report
from benchmarks.index.scann_engines import BareScann, ServedScann
from benchmarks.index.study import ASKED_RECALLS, Protocol, make_full, run_study
from benchmarks.index.summary import interpolate_qps, keep_front, summarize
from benchmarks.index.timing import ExactScan, choose_settings, grow, measure, on_one_core
from benchmarks.results import ResultStore
from components.index_builder.scann_index import count_leaves
from pipelines.commands import bench

SMALL = Protocol(num_items=2000, num_tuning=20, num_measured=40, rounds=2)


@pytest.fixture(scope="module")
def data():
    return make_search_data("spectrum", 3000, 30, 40, seed=1)


@pytest.mark.parametrize("part", [0, 1])
def test_the_spectrums_eigenvalues_fall_as_one_over_i(part):
    sample = sample_spectrum(np.random.default_rng(0), 100_000, 100_000)[part]
    eigenvalues = np.linalg.eigvalsh(np.cov(sample.T))[::-1]
    np.testing.assert_allclose(eigenvalues, 1 / np.arange(1, DIMENSIONS + 1), rtol=0.04)


@pytest.mark.parametrize("part", [0, 1])
def test_the_isotropic_vectors_have_no_structure(part):
    sample = sample_isotropic(np.random.default_rng(0), 100_000, 100_000)[part]
    np.testing.assert_allclose(np.cov(sample.T), np.eye(DIMENSIONS), atol=0.03)
    np.testing.assert_allclose(sample.mean(axis=0), 0, atol=0.03)


def test_the_clusters_are_2000_gaussian_centres_with_half_as_much_noise():
    items, _ = sample_clustered(np.random.default_rng(0), 25_000, 1)
    centres, squares, left = [], [], items
    while len(left):
        # Two items of a centre are about 5.7 apart, centres about 11.3.
        near = np.linalg.norm(left - left[0], axis=1) < 7.9
        centres.append(left[near].mean(axis=0))
        if near.sum() > 1:
            squares.append(left[near].var(axis=0, ddof=1).mean())
        left = left[~near]
    assert len(centres) == NUM_CENTRES == 2000
    assert np.median(squares) == pytest.approx(0.5**2, rel=0.02)
    assert np.var(centres) == pytest.approx(1.0, rel=0.05)


def test_a_clustered_query_is_an_item_with_noise():
    items, queries = sample_clustered(np.random.default_rng(0), 5000, 200)
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    squares = ((queries[:, np.newaxis] - items) ** 2).sum(axis=2).min(axis=1)
    assert squares.mean() / DIMENSIONS == pytest.approx(0.05**2, rel=0.05)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_vectors_are_of_length_one_and_follow_the_seed(distribution):
    made = make_search_data(distribution, 500, 10, 20, seed=3)
    assert made.items.shape == (500, DIMENSIONS) and made.items.dtype == np.float32
    assert made.tuning.queries.shape == (10, DIMENSIONS) and made.measured.rows.shape == (20, DEPTH)
    for vectors in (made.items, made.tuning.queries, made.measured.queries):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    asked = np.concatenate([made.tuning.queries, made.measured.queries])
    assert len(np.unique(asked, axis=0)) == 30, "no query to tune on is measured"
    again = make_search_data(distribution, 500, 10, 20, seed=3)
    assert (again.items == made.items).all() and (again.measured.rows == made.measured.rows).all()
    assert (make_search_data(distribution, 500, 10, 20, seed=4).items != made.items).any()


def test_fewer_items_than_are_asked_for_are_refused():
    with pytest.raises(ValueError, match="99 items are too few: the 100 best"):
        make_search_data("isotropic", 99, 1, 1, seed=0)


def test_exact_answers_equal_a_full_sort_whatever_the_blocks(data, monkeypatch):
    monkeypatch.setattr("benchmarks.index.data._ROWS_AT_ONCE", 70)  # fewer than are asked for
    rows, floors = find_exactly(data.items, data.measured.queries, DEPTH)
    scores = data.measured.queries.astype(np.float64) @ data.items.astype(np.float64).T
    assert (rows == np.argsort(-scores, axis=1)[:, :DEPTH]).all()
    np.testing.assert_allclose(floors, np.sort(scores, axis=1)[:, -DEPTH], rtol=1e-12)


def test_recall_counts_ids_by_query_and_takes_either_of_a_tie():
    items = np.eye(4, dtype=np.float32)[[0, 1, 1, 2, 3]]  # rows 1 and 2 are the same
    queries = np.array([[0.9, 0.5, 0.1, 0.0], [0.0, 0.1, 0.3, 0.9]], np.float32)
    rows, floors = find_exactly(items, queries, 2)
    asked = Asked(queries, rows, floors)
    assert rows[0, 0] == 0 and rows[1].tolist() == [4, 3]

    def recalls(*found):
        return compute_recalls(items, asked, np.array(found)).tolist()

    assert recalls([0, 1], [4, 3]) == recalls([2, 0], [3, 4]) == [1, 1]  # 1 and 2 tie for the second place
    assert recalls([0, 0], [4, -1]) == [0.5, 0.5]  # an item twice is one item; nothing is nothing
    assert recalls([4, 3], [0, 1]) == [0, 0]  # each other's answers


def find(searcher, setting, data):
    search = searcher.prepare(setting)
    found = np.array([searcher.read(search(query)) for query in data.measured.queries])
    assert found.shape == (len(data.measured.queries), DEPTH)
    return compute_recalls(data.items, data.measured, found).mean()


LEAVES = count_leaves(3000)
EXHAUSTIVE = {
    "brute_force": (lambda data: ExactScan(data.items), {}, 1.0),
    "scann": (
        lambda data: BareScann(data.items, 2),
        {"leaves_to_search": LEAVES, "reorder_factor": 20.0},
        1.0,
    ),
    "scann_served": (
        lambda data: ServedScann(data.items),
        {"leaves_to_search": LEAVES, "reorder_factor": 20.0},
        1.0,
    ),
    "hnswlib": (lambda data: Hnsw(data.items, 16, 2), {"ef": 3000}, 0.999),
    "faiss, flat": (lambda data: Faiss(data.items, "IVF50,Flat", 2), {"nprobe": 50}, 1.0),
    "faiss, coded": (
        lambda data: Faiss(data.items, "RR64,IVF50,PQ32x4fs,RFlat", 2),
        {"nprobe": 50, "k_factor_rf": 20},
        1.0,
    ),
}


@pytest.mark.parametrize("engine", EXHAUSTIVE)
def test_every_engine_finds_all_where_it_looks_everywhere(engine, data):
    build, setting, least = EXHAUSTIVE[engine]
    searcher = build(data)
    assert find(searcher, setting, data) >= least
    if "leaves_to_search" in setting or "nprobe" in setting:
        least_of_all = {"leaves_to_search": 1, "reorder_factor": 1.0, "nprobe": 1, "k_factor_rf": 1}
        setting = {key: least_of_all[key] for key in setting}
        assert measure(searcher, [setting], data, rounds=2)[0].recall < 0.5, "the setting was without effect"


def test_the_served_index_chooses_a_setting_for_the_recall(data):
    searcher = ServedScann(data.items)
    low, high = (searcher.tune(data.tuning, target) for target in (0.7, 0.99))
    assert low["target"] == 0.7 and low["leaves_to_search"] < LEAVES
    recalls = [point.recall for point in measure(searcher, [low, high], data, rounds=2)]
    assert 0.65 < recalls[0] < recalls[1] and recalls[1] > 0.97


def test_settings_are_chosen_on_the_tuning_queries_and_none_is_beaten(data):
    asked = []

    class Recorded(Hnsw):
        def prepare(self, setting):
            search = super().prepare(setting)
            return lambda query: (asked.append(query), search(query))[1]

    index = Recorded(data.items, 4, 2)
    chosen = choose_settings(index, [{"ef": ef} for ef in (1000, 100, 300)], data)
    tuning = {query.tobytes() for query in data.tuning.queries}
    assert {query.tobytes() for query in asked} == tuning
    efs = [setting["ef"] for setting in chosen]
    assert efs == sorted(efs)


def test_measuring_asks_each_measured_query_and_pairs_rounds(data):
    points = measure(ExactScan(data.items), [{}], data, rounds=4)
    assert len(points) == 1 and points[0].recall == pytest.approx(1.0, abs=0.001)
    assert len(points[0].speedups) == len(points[0].cpu_speedups) == len(points[0].scan_qps) == 4
    assert 0 < points[0].p50_ms <= points[0].p99_ms


def test_the_scan_is_timed_as_warm_as_the_engine(data, monkeypatch):
    asked = []
    clock = types.SimpleNamespace(now=0.0)
    clock.perf_counter = clock.process_time = lambda: clock.now

    class SlowAtFirst(ExactScan):
        """Its first five queries after another's take 11 s, the others one."""

        def _search(self, query):
            asked.append(self)
            clock.now += 1.0 if asked[-6:] == [self] * 6 else 11.0
            return super()._search(query)

    monkeypatch.setattr(timing, "time", clock)
    monkeypatch.setattr(timing, "ExactScan", SlowAtFirst)
    (point,) = measure(SlowAtFirst(data.items), [{}], data, rounds=2)
    assert point.speedups == point.cpu_speedups == [1.0, 1.0]


def test_grids_grow_to_their_ends():
    assert grow(1, 8, 2.0) == [1, 2, 4, 8]
    assert list_nprobe(2, 2.0, refined=False) == [{"nprobe": 1}, {"nprobe": 2}]
    assert {"nprobe": 2, "k_factor_rf": 32} in list_nprobe(2, 2.0, refined=True)


def test_one_core_is_one_core_for_every_thread_and_given_back():
    before = os.sched_getaffinity(0)
    stop = threading.Event()
    other = threading.Thread(target=stop.wait)
    other.start()
    with on_one_core():
        threads = [os.sched_getaffinity(int(thread)) for thread in os.listdir("/proc/self/task")]
        assert len(threads) > 1 and all(cores == {min(before)} for cores in threads)
    assert os.sched_getaffinity(0) == os.sched_getaffinity(other.native_id) == before
    stop.set()


def test_curves_by_hand():
    def point(recall, qps):
        return {"recall_100": recall, "qps": qps}

    beaten, points = point(0.85, 50.0), [point(0.999, 10.0), point(0.9, 1000.0), point(0.99, 100.0)]
    front = keep_front([beaten, *points])
    assert [p["qps"] for p in front] == [1000.0, 100.0, 10.0]
    # A nine more costs ten times: the square root of ten lies between
    assert interpolate_qps(front, 1 - 10**-1.5) == pytest.approx(1000 / 10**0.5)
    assert interpolate_qps(front, 0.5) == pytest.approx(1000)
    assert interpolate_qps(front, 0.9995) is None


def test_the_full_study_measures_more():
    full = make_full(SMALL)
    assert full.num_measured == 3 * SMALL.num_measured and full.rounds == 3 * SMALL.rounds
    assert set(SMALL.targets) < set(full.targets) and full.step < SMALL.step
    assert set(ASKED_RECALLS.values()) <= set(SMALL.targets)
    names = [(v.engine, v.name) for v in list_variants(10_000, full.targets, full.step, full.hnsw_links)]
    assert len(set(names)) == len(names) and {engine for engine, _ in names} == set(ENGINES)


@pytest.fixture
def cheap_variants(monkeypatch):
    """In each engine's place the exact scan, which costs nothing to build; returns what was built."""
    built = []

    def list_cheap(num_items, targets, step, hnsw_links):
        def make(engine):
            def build(data):
                built.append(engine)
                return ExactScan(data.items), [{"target": t} for t in targets] if engine == SERVED else [{}]

            return Variant(engine, "scan", build, (f"module of {engine}",))

        return [make(engine) for engine in ENGINES]

    monkeypatch.setattr(study, "list_variants", list_cheap)
    return built


def join(*modules):
    return "+".join(modules)


def test_the_study_as_json_table_and_picture(cheap_variants, tmp_path, capsys):
    results = run_study(SMALL, ResultStore(tmp_path / "results"), join, print)
    summary = json.loads(json.dumps(summarize(results, SMALL), allow_nan=False))

    assert set(summary) == {"clustered", "spectrum", "isotropic", "machine", "protocol"}
    for distribution, asked in ASKED_RECALLS.items():
        assert tuple(summary[distribution]) == (
            *("brute_force", "scann", "scann_served", "hnswlib"),
            "faiss",
        )
        for engine in summary[distribution].values():
            assert engine["recall_100"] == pytest.approx(1.0, abs=0.01) and engine["qps"] > 0
        assert summary[distribution]["scann_served"]["setting"] == {"target": asked}
    assert "cores" in summary["machine"] and "hnswlib" in summary["machine"]
    capsys.readouterr()
    print_report(summary)
    printed = capsys.readouterr().out
    assert "clustered, a recall@100 of 0.99 asked for" in printed
    assert max(map(len, printed.splitlines())) <= 80 and "…" not in printed
    save_plot(summary, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_a_stopped_study_goes_on_where_it_was(cheap_variants, tmp_path, monkeypatch):
    store = ResultStore(tmp_path / "results")

    def stop(text):
        if text.startswith("spectrum, hnswlib"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(SMALL, store, join, stop)
    first = len(cheap_variants)
    assert 0 < first < len(ENGINES) * len(DISTRIBUTIONS)
    lines = []
    results = run_study(SMALL, store, join, lines.append)
    assert len(cheap_variants) == len(results) == len(ENGINES) * len(DISTRIBUTIONS)
    assert sum("measured before" in line for line in lines) == first

    monkeypatch.setattr(study, "make_search_data", None)  # no data is made where all is there
    assert run_study(SMALL, store, join, lines.append) == results


def test_other_code_and_other_seeds_are_other_results(cheap_variants, tmp_path):
    store = ResultStore(tmp_path / "results")
    run_study(SMALL, store, join, print)
    cheap_variants.clear()
    run_study(SMALL, store, lambda *modules: join(*modules).replace("module of faiss", "edited"), print)
    assert cheap_variants == ["faiss"] * len(DISTRIBUTIONS)
    cheap_variants.clear()
    run_study(dataclasses.replace(SMALL, seed=1), store, join, print)
    assert len(cheap_variants) == len(ENGINES) * len(DISTRIBUTIONS)


def test_what_is_quoted_of_the_served_index_is_drawn(cheap_variants, tmp_path):
    results = run_study(SMALL, ResultStore(tmp_path / "results"), join, print)
    by_engine = summarize(results, SMALL)["clustered"]
    beaten = {"recall_100": 0.9, "qps": 5.0}
    by_engine[SERVED].update(beaten, points=[{"recall_100": 0.95, "qps": 50.0}])
    _, axes = plt.subplots()
    _draw_curves(axes, by_engine, 0.9)
    drawn = np.concatenate([np.transpose(line.get_data()) for line in axes.lines])
    assert np.isclose(drawn, [1.0, 5.0]).all(axis=1).any()  # at one nine
    plt.close()


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(engines, "list_missing_packages", lambda: ["faiss-cpu"])
    with pytest.raises(SystemExit, match="install faiss-cpu"):
        bench.index()

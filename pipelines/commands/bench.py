"""`winnow bench`: measurements beside what a user would pick instead."""

import dataclasses
import functools
import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.commands import bench_dien_amazon, bench_dien_serving, bench_dien_speed, bench_movielens
from pipelines.commands import bench_options as options
from pipelines.commands.preparation import Preparation, make_data_key

if TYPE_CHECKING:
    from benchmarks.retrieval.data import BenchmarkData

app = typer.Typer(help="Measure models beside what one would pick instead.", no_args_is_help=True)


@app.command()
def retrieval(
    events: options.Events,
    config: options.Config = None,
    root: options.Root = options.DEFAULT_ROOT,
    *,
    seeds: options.Seeds = 3,
    full: options.Full = False,
    as_json: options.Json = False,
    plot: options.Plot = None,
) -> None:
    """Winnow's retrieval against popularity, random, item-kNN, EASE and the TFRS tutorial's model.

    Split by time; the same history, exclusions and queries for all. A stopped study goes on where it was:
    what is measured is kept under ROOT/bench/retrieval.
    """
    from pipelines import tensorflow_setup  # noqa: F401, I001  (before TensorFlow)
    from benchmarks.machine import describe_machine
    from benchmarks.retrieval.models import list_models
    from benchmarks.results import ResultStore
    from benchmarks.retrieval.study import Study, run_study
    from pipelines.code_fingerprint import compute_code_fingerprint
    from pipelines.config import NegativesConfig, load_config
    from pipelines.paths import RunPaths
    from sources.event_log import ORACLE_DIR, EventLog

    settings, paths, log = load_config(config), RunPaths(root), EventLog(events)
    # Clicks are all it needs.
    settings = dataclasses.replace(settings, negatives=NegativesConfig(per_click=0))
    manifest = log.manifest
    has_oracle = manifest.synthetic and (log.path / ORACLE_DIR).is_dir()
    models = list_models(settings.retrieval, settings.index.depth, has_oracle=has_oracle)
    machine = describe_machine(options.PACKAGES)
    with ExitStack() as stack:
        preparation = Preparation(log, settings, paths, stack)

        @functools.cache
        def load_data() -> "BenchmarkData":
            from benchmarks.retrieval.data import BenchmarkData

            return BenchmarkData(preparation.run(), settings.gates.exclude_seen)

        study = Study(
            models=models,
            seeds=options.list_seeds(settings.retrieval.seed, seeds, full),
            data_key={**make_data_key(log, settings), "exclude_seen": settings.gates.exclude_seen},
            machine=machine,
            load_data=load_data,
            fingerprint=compute_code_fingerprint,
        )
        store = ResultStore(paths.root / "bench" / "retrieval")
        results, facts = run_study(study, store, options.say)

    from benchmarks.retrieval.report import print_report
    from benchmarks.retrieval.summary import summarize

    protocol = {
        **facts,
        "source": manifest.source,
        "synthetic": manifest.synthetic,
        "split": "by time",
        "seen_removed": settings.gates.exclude_seen,
        "machine": machine,
    }
    summary = summarize(results, protocol)
    print_report(summary, models)

    def draw(path: Path) -> None:
        from benchmarks.retrieval.plot import save_plot

        save_plot(summary, models, path)

    options.print_json_and_draw(summary, as_json, plot, draw)


@app.command()
def index(
    root: options.Root = options.DEFAULT_ROOT,
    *,
    items: Annotated[int, typer.Option(min=2000, help="Vectors of each distribution.")] = 1_000_000,
    full: Annotated[
        bool,
        typer.Option(
            "--full", help="Three times the queries and rounds, denser curves, hnswlib with M=32 too."
        ),
    ] = False,
    as_json: options.Json = False,
    plot: options.Plot = None,
) -> None:
    """The served ScaNN index against an exact scan, ScaNN bare, hnswlib and faiss, on one core.

    Seeded vectors of three distributions. A stopped study goes on where it was: what is measured is kept
    under ROOT/bench/index.
    """
    # One thread each: NumPy's by these, when it is imported; TensorFlow's before it starts.
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    from benchmarks.index.engines import list_missing_packages

    if missing := list_missing_packages():
        raise SystemExit(
            f"winnow: bench index compares with what is not there; install {' and '.join(missing)}"
        )
    from pipelines import tensorflow_setup  # noqa: F401, I001  (before TensorFlow)
    import tensorflow as tf

    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    from benchmarks.index.report import print_report
    from benchmarks.index.study import Protocol, make_full, run_study
    from benchmarks.index.summary import summarize
    from benchmarks.results import ResultStore
    from pipelines.code_fingerprint import compute_code_fingerprint

    protocol = Protocol(num_items=items)
    protocol = make_full(protocol) if full else protocol
    store = ResultStore(root / "bench" / "index")
    summary = summarize(run_study(protocol, store, compute_code_fingerprint, options.say), protocol)
    print_report(summary)

    def draw(path: Path) -> None:
        from benchmarks.index.plot import save_plot

        save_plot(summary, path)

    options.print_json_and_draw(summary, as_json, plot, draw)


@app.command("prerank-scoring")
def prerank_scoring(
    events: options.Events,
    config: options.Config = None,
    root: options.Root = options.DEFAULT_ROOT,
    *,
    candidates: Annotated[int, typer.Option(min=1, help="Candidates of the one user.")] = 10_000,
    rounds: Annotated[int, typer.Option(min=1, help="How often both are asked.")] = 50,
    as_json: options.Json = False,
) -> None:
    """The pre-ranking student, item vectors made beforehand, against its teacher: one user's candidates."""
    from pipelines import tensorflow_setup  # noqa: F401  (before TensorFlow)
    from pipelines.config import load_config
    from pipelines.paths import RunPaths
    from sources.event_log import EventLog

    settings, paths = load_config(config), RunPaths(root)
    with ExitStack() as stack:
        prepared = Preparation(EventLog(events), settings, paths, stack).run()
        from benchmarks.prerank.scoring import measure_scoring

        result = measure_scoring(
            prepared,
            settings.prerank,
            settings.prerank_teacher,
            candidates=candidates,
            rounds=rounds,
            report=options.say,
        )
    for name in ("student", "teacher"):
        time = result[f"{name}_ms"]
        typer.echo(f"{name}: {time['p50']:.2f} ms ({time['p25']:.2f} to {time['p75']:.2f}, middle half)")
    typer.echo(f"the student scores {candidates:,} candidates {result['ratio']:.1f} times as fast")
    if as_json:
        typer.echo(json.dumps(result))


for name, description in bench_movielens.DESCRIPTIONS.items():
    app.command(name, help=description)(bench_movielens.movielens)
app.command("dien-amazon")(bench_dien_amazon.dien_amazon)
app.command("dien-speed")(bench_dien_speed.dien_speed)
app.command("dien-serving")(bench_dien_serving.dien_serving)

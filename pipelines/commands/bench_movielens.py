"""`winnow bench movielens-tutorial` and `winnow bench leave-last-out`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.commands import bench_options as options

if TYPE_CHECKING:
    from benchmarks.movielens.data import HeldOutData

FIRST_SEED = 1

Data = Annotated[
    Path,
    typer.Option("--data", help="An unpacked MovieLens data set: 100k, 1M, latest-*.", show_default=False),
]

_TUTORIAL = """The TFRS tutorials' protocol: a random split, top-k accuracy, seen titles removed and kept.

Winnow's model beside EASE, popularity and the tutorials' models. A stopped study goes on where it was:
what is measured is kept under ROOT/bench/movielens-tutorial.
"""
_LAST_OUT = """Each user's last rating is to be found among all titles but the seen ones.

Winnow's model beside EASE and popularity. A stopped study goes on where it was: what is measured is kept
under ROOT/bench/leave-last-out.
"""
# By the command's name, which is the protocol's.
DESCRIPTIONS = {"movielens-tutorial": _TUTORIAL, "leave-last-out": _LAST_OUT}


def movielens(
    context: typer.Context,
    data: Data,
    root: options.Root = options.DEFAULT_ROOT,
    *,
    seeds: options.Seeds = 3,
    full: options.Full = False,
    as_json: options.Json = False,
    plot: options.Plot = None,
) -> None:
    """Runs the protocol that has the command's name, and prints what it comes to."""
    from pipelines import tensorflow_setup  # noqa: F401, I001  (before TensorFlow)
    from benchmarks.machine import describe_machine
    from benchmarks.movielens.models import list_models
    from benchmarks.movielens.protocols import LAST_OUT, RANDOM_SPLIT
    from benchmarks.movielens.ratings import read_movielens
    from benchmarks.movielens.report import print_report
    from benchmarks.movielens.summary import summarize
    from benchmarks.results import ResultStore
    from benchmarks.retrieval.study import Study, run_study
    from pipelines.code_fingerprint import compute_code_fingerprint

    (protocol,) = (x for x in (RANDOM_SPLIT, LAST_OUT) if x.name == context.info_name)
    ratings = read_movielens(data)
    models = list_models(protocol)
    machine = describe_machine(options.PACKAGES)

    def load() -> "HeldOutData":
        from benchmarks.movielens.data import HeldOutData

        return HeldOutData(ratings, protocol)

    study = Study(
        models=models,
        seeds=options.list_seeds(FIRST_SEED, seeds, full),
        data_key={"ratings": ratings.fingerprint(), "protocol": protocol.name},
        machine=machine,
        load_data=load,
        fingerprint=compute_code_fingerprint,
        data_module="benchmarks.movielens.data",
        headline=protocol.choose_by,
    )
    results, facts = run_study(study, ResultStore(root / "bench" / protocol.name), options.say)
    summary = summarize(results, {**facts, "name": protocol.name, "machine": machine})
    print_report(summary, models)

    def draw(path: Path) -> None:
        from benchmarks.movielens.plot import save_plot

        save_plot(summary, models, path)

    options.print_json_and_draw(summary, as_json, plot, draw)

"""`winnow bench movielens-tutorial` and `winnow bench leave-last-out`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from benchmarks.movielens.data import HeldOutData
    from benchmarks.movielens.protocols import Protocol

FIRST_SEED = 1
FULL_SEEDS = 5
_PACKAGES = ("tensorflow", "tensorflow-recommenders", "numpy", "scipy")

DataOption = Annotated[
    Path,
    typer.Option("--data", help="An unpacked MovieLens data set: 100k, 1M, latest-*.", show_default=False),
]
RootOption = Annotated[Path, typer.Option("--root", help="Directory of results.")]
SeedsOption = Annotated[int, typer.Option("--seeds", min=1, help="Seeds of the models that have one.")]
FullOption = Annotated[bool, typer.Option("--full", help=f"The full study: {FULL_SEEDS} seeds.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the results as one line of JSON, last.")]
PlotOption = Annotated[
    Path | None, typer.Option("--plot", metavar="FILE.png", help="Draw a picture.", show_default=False)
]
DEFAULT_ROOT = Path("runs/bench")


def movielens_tutorial(
    data: DataOption,
    root: RootOption = DEFAULT_ROOT,
    *,
    seeds: SeedsOption = 3,
    full: FullOption = False,
    as_json: JsonOption = False,
    plot: PlotOption = None,
) -> None:
    """The TFRS tutorials' protocol: a random split, top-k accuracy, seen titles removed and kept.

    Winnow's model beside EASE, popularity and the tutorials' models. A stopped study goes on where it was:
    what is measured is kept under ROOT/bench/movielens-tutorial.
    """
    from benchmarks.movielens.protocols import RANDOM_SPLIT

    _run(RANDOM_SPLIT, data, root, max(seeds, FULL_SEEDS) if full else seeds, as_json, plot)


def leave_last_out(
    data: DataOption,
    root: RootOption = DEFAULT_ROOT,
    *,
    seeds: SeedsOption = 3,
    full: FullOption = False,
    as_json: JsonOption = False,
    plot: PlotOption = None,
) -> None:
    """Each user's last rating is to be found among all titles but the seen ones.

    Winnow's model beside EASE and popularity. A stopped study goes on where it was: what is measured is kept
    under ROOT/bench/leave-last-out.
    """
    from benchmarks.movielens.protocols import LAST_OUT

    _run(LAST_OUT, data, root, max(seeds, FULL_SEEDS) if full else seeds, as_json, plot)


def _run(
    protocol: "Protocol", data: Path, root: Path, num_seeds: int, as_json: bool, plot: Path | None
) -> None:
    from pipelines import tensorflow_setup  # noqa: F401, I001  (before TensorFlow)
    from benchmarks.machine import describe_machine
    from benchmarks.movielens.models import list_models
    from benchmarks.movielens.ratings import read_movielens
    from benchmarks.movielens.report import print_report
    from benchmarks.movielens.summary import summarize
    from benchmarks.retrieval.results import ResultStore
    from benchmarks.retrieval.study import Study, run_study
    from pipelines.code_fingerprint import compute_code_fingerprint

    movielens = read_movielens(data)
    models = list_models(protocol)

    def load() -> "HeldOutData":
        from benchmarks.movielens.data import HeldOutData

        return HeldOutData(movielens, protocol)

    study = Study(
        models=models,
        seeds=range(FIRST_SEED, FIRST_SEED + num_seeds),
        data_key={"ratings": movielens.fingerprint(), "protocol": protocol.name},
        load_data=load,
        fingerprint=compute_code_fingerprint,
        data_module="benchmarks.movielens.data",
        headline=protocol.choose_by,
    )
    results, facts = run_study(study, ResultStore(root / "bench" / protocol.name), _say)
    machine = describe_machine(_PACKAGES)
    summary = summarize(results, {**facts, "name": protocol.name, "machine": machine})
    print_report(summary, models)
    if plot is not None:
        from benchmarks.movielens.plot import save_plot

        save_plot(summary, models, plot)
    if as_json:
        typer.echo(json.dumps(summary))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

"""`winnow ablate`: what each part of a model is worth."""

import dataclasses
import functools
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.commands import bench_options as options
from pipelines.commands.preparation import Preparation, make_data_key
from pipelines.commands.run import DEFAULT_SOURCE, simulate_default

if TYPE_CHECKING:
    from benchmarks.ranking.data import LogRows
    from benchmarks.ranking.models import RankerSpec
    from pipelines.config import RunConfig

_EVENT_AGE = "history_timestamp_age"


@dataclasses.dataclass(frozen=True)
class _World:
    """What the study is made on.

    Attributes:
      title: of its table.
      log: the event log's directory.
      hidden: encoded features that no row sees.
    """

    title: str
    log: Path
    hidden: tuple[str, ...] = ()


app = typer.Typer(help="Train a model without its parts, one at a time.", no_args_is_help=True)


@app.callback()
def ablate() -> None:
    """Train a model without its parts, one at a time."""


@app.command()
def ranking(
    events: Annotated[
        Path | None,
        typer.Option(
            "--events",
            help="The event log; when left out a simulated marketplace with drifting interests, the same "
            "without the age of each event, and one without drift.",
            show_default=False,
            resolve_path=True,
        ),
    ] = None,
    config: options.Config = None,
    root: options.Root = options.DEFAULT_ROOT,
    *,
    seeds: options.Seeds = 3,
    full: Annotated[
        bool,
        typer.Option(
            "--full", help=f"The full study: {options.FULL_SEEDS} seeds, and more of DIEN's choices."
        ),
    ] = False,
    as_json: options.Json = False,
    plot: options.Plot = None,
) -> None:
    """The ranker without a history, as DIN, and in DIEN's forms, without and with the auxiliary loss.

    Split by time; AUC and GAUC of the clicks on the test split's shown rows, the speed of training beside
    them. All learn from labels alone, and see the same. A stopped study goes on where it was: what is
    measured is kept under ROOT/bench/ranking.
    """
    from pipelines import tensorflow_setup  # noqa: F401  (before TensorFlow)
    from pipelines.config import load_config
    from pipelines.config_checks import check_config
    from sources.event_log import EventLog

    settings = load_config(config)
    check_config(DEFAULT_SOURCE if events is None else EventLog(events).manifest.schema, settings)
    if events is not None:
        worlds = [_World(events.name, events)]
    else:
        drifting, steady = root / "bench" / "default", root / "bench" / "default-no-drift"
        simulate_default(drifting, drift=True)
        simulate_default(steady, drift=False)
        worlds = [
            _World("drifting interests", drifting),
            _World("drifting, without event ages", drifting, (_EVENT_AGE,)),
            _World("no drift", steady),
        ]

    from benchmarks.ranking.models import COMPARED, list_rankers
    from benchmarks.ranking.report import describe_protocol, print_explanation, print_report

    rankers = list_rankers(settings.ranking, full=full)
    study_seeds = options.list_seeds(settings.ranking.seed, seeds, full)
    summaries = {}
    for world in worlds:
        if world is not worlds[0] and not full:
            rankers = [spec for spec in rankers if spec.name in COMPARED]
        summaries[world.title] = _study(world, settings, rankers, study_seeds, root)
    for title, summary in summaries.items():
        print_report(f"{title}: {describe_protocol(summary['protocol'])}", summary)
    print_explanation()

    def draw(path: Path) -> None:
        from benchmarks.ranking.plot import save_plot

        save_plot(summaries, path)

    first, *others = summaries.items()
    result: dict[str, Any] = {**first[1], "others": dict(others)}
    options.print_json_and_draw(result, as_json, plot, draw)


def _study(
    world: _World, settings: "RunConfig", rankers: "Sequence[RankerSpec]", seeds: Sequence[int], root: Path
) -> dict[str, Any]:
    """All rows in one world.

    Args:
      world: what they are trained and measured on.
      settings: of the run.
      rankers: the rows.
      seeds: of every row.
      root: of the results, and of the runs of the nodes up to Transform.
    """
    from benchmarks.machine import describe_machine
    from benchmarks.ranking.study import Study, run_study
    from benchmarks.ranking.summary import summarize
    from components.event_ingest.negatives import lacks_negatives
    from pipelines.code_fingerprint import compute_code_fingerprint
    from pipelines.paths import RunPaths
    from sources.event_log import EventLog

    log = EventLog(world.log)
    machine = describe_machine(options.PACKAGES)
    with ExitStack() as stack:
        cache_dir = stack.enter_context(tempfile.TemporaryDirectory())
        preparation = Preparation(log, settings, RunPaths(root / "logs" / log.path.name), stack)

        @functools.cache
        def load_data() -> "LogRows":
            from benchmarks.ranking.data import LogRows

            return LogRows(log, preparation.run(), cache_dir, world.hidden)

        study = Study(
            rankers=rankers,
            seeds=seeds,
            data_key={**make_data_key(log, settings), "hidden": world.hidden},
            machine=machine,
            load_data=load_data,
            fingerprint=compute_code_fingerprint,
            folder=root / "bench" / "ranking",
        )
        results, facts = run_study(study, options.say)
    facts |= {
        "source": log.manifest.source,
        "synthetic": log.manifest.synthetic,
        "split": "by time",
        "drawn_per_click": settings.negatives.per_click if lacks_negatives(log) else 0,
        "machine": machine,
    }
    return summarize(results, rankers, facts, study.folder)

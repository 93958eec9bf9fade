"""`winnow distill-study`: what a teacher adds to the pre-ranking student, in every form."""

import dataclasses
import functools
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.commands import bench_options as options
from pipelines.commands.preparation import Preparation, make_data_key
from pipelines.commands.run import DEFAULT_SOURCE, simulate_default

if TYPE_CHECKING:
    from benchmarks.prerank.data import StudyData

_USERS, _DAYS = 2_400, 28  # a million shown rows


def distill_study(
    events: Annotated[
        Path | None,
        typer.Option(
            "--events",
            help="The event log; a simulated marketplace of a million shown rows when left out.",
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
            "--full", help=f"The full study: {options.FULL_SEEDS} seeds, and more of λ, T and the forms."
        ),
    ] = False,
    as_json: options.Json = False,
    plot: options.Plot = None,
) -> None:
    """Trains control, teachers and students over a grid of forms and modes, and compares them.

    Split by time; AUC and GAUC of the clicks on the test split's shown rows, the cost of training beside
    them. A stopped study goes on where it was: what is measured is kept under ROOT/bench/prerank.
    """
    from pipelines import tensorflow_setup  # noqa: F401, I001  (before TensorFlow)
    from benchmarks.machine import describe_machine
    from benchmarks.prerank.models import list_scorers
    from benchmarks.prerank.study import Study, run_study
    from pipelines.code_fingerprint import compute_code_fingerprint
    from pipelines.config import load_config
    from pipelines.config_checks import check_config
    from pipelines.paths import RunPaths
    from sources.event_log import EventLog

    settings, paths = load_config(config), RunPaths(root)
    scorers = list_scorers(settings.prerank, settings.prerank_teacher, settings.distillation, full=full)
    source = DEFAULT_SOURCE if events is None else EventLog(events).manifest.schema
    needs = dataclasses.replace(settings.prerank_teacher, form="pfd_md")  # the rows are of every form
    losses = dataclasses.replace(settings.distillation, mode="two_stage", sharing="none")
    check_config(source, dataclasses.replace(settings, prerank_teacher=needs, distillation=losses))
    if events is None:
        events = root / "bench" / "marketplace"
        simulate_default(events, num_users=_USERS, num_days=_DAYS)
    log = EventLog(events)
    machine = describe_machine(options.PACKAGES)
    days_fraction = settings.prerank_teacher.days_fraction
    with ExitStack() as stack:
        cache_dir = stack.enter_context(tempfile.TemporaryDirectory())
        preparation = Preparation(log, settings, paths, stack)

        @functools.cache
        def load_data() -> "StudyData":
            from benchmarks.prerank.data import StudyData

            return StudyData(log, preparation.run(), cache_dir, days_fraction)

        study = Study(
            scorers=scorers,
            seeds=options.list_seeds(settings.prerank.seed, seeds, full),
            data_key={**make_data_key(log, settings), "days_fraction": days_fraction},
            machine=machine,
            load_data=load_data,
            fingerprint=compute_code_fingerprint,
            folder=paths.root / "bench" / "prerank",
        )
        results, facts = run_study(study, options.say)

    from benchmarks.prerank.report import print_report
    from benchmarks.prerank.summary import summarize
    from components.event_ingest.negatives import lacks_negatives

    facts |= {
        "source": log.manifest.source,
        "synthetic": log.manifest.synthetic,
        "split": "by time",
        "drawn_per_click": settings.negatives.per_click if lacks_negatives(log) else 0,
        "machine": machine,
    }
    summary = summarize(results, scorers, facts, study.folder)
    print_report(summary)

    def draw(path: Path) -> None:
        from benchmarks.prerank.plot import save_plot

        save_plot(summary, path)

    options.print_json_and_draw(summary, as_json, plot, draw)

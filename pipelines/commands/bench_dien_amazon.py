"""`winnow bench dien-amazon`: the DIEN paper's protocol."""

import functools
import hashlib
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.commands import bench_options as options
from pipelines.commands.console import show_progress

if TYPE_CHECKING:
    from benchmarks.ranking.amazon import AmazonRows
    from sources.event_log import EventLog

_SOURCE = "sources.amazon"  # writes the log


def dien_amazon(
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            help="A directory with a file of Amazon reviews, 5-core, and its meta* file; as downloaded.",
            show_default=False,
            resolve_path=True,
        ),
    ],
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
    """The DIEN paper's protocol: each user's last review, told from an item drawn beside it by those before.

    The ranker without a history, as DIN, and in DIEN's forms, at the paper's sizes. The split is the paper's,
    by user and not by time. The reviews are imported, and what is measured is kept, under
    ROOT/bench/dien-amazon.
    """
    from pipelines import tensorflow_setup  # noqa: F401, I001  (before TensorFlow)
    from benchmarks.machine import describe_machine
    from benchmarks.ranking.amazon import PAPER, describe_protocol
    from benchmarks.ranking.models import list_rankers
    from benchmarks.ranking.report import print_explanation, print_report
    from benchmarks.ranking.study import Study, run_study
    from benchmarks.ranking.summary import summarize
    from pipelines.code_fingerprint import compute_code_fingerprint

    folder = root / "bench" / "dien-amazon"
    log = _import_reviews(data, folder)
    rankers = list_rankers(PAPER, full=full)
    machine = describe_machine(options.PACKAGES)
    with ExitStack() as stack:

        @functools.cache
        def load_data() -> "AmazonRows":
            from benchmarks.ranking.amazon import AmazonRows
            from pipelines.run_log import write_log_to

            rows = AmazonRows(log)
            stack.enter_context(write_log_to(root / "logs"))
            return rows

        study = Study(
            rankers=rankers,
            seeds=options.list_seeds(PAPER.seed, seeds, full),
            data_key={"log": log.path.name},
            machine=machine,
            load_data=load_data,
            fingerprint=compute_code_fingerprint,
            folder=folder,
            data_module="benchmarks.ranking.amazon",
        )
        results, facts = run_study(study, options.say)
    facts |= {
        "source": log.manifest.source,
        "data": data.name,
        "synthetic": log.manifest.synthetic,
        "split": "by user",
        "machine": machine,
    }
    summary: dict[str, Any] = summarize(results, rankers, facts, study.folder)
    print_report(f"{data.name}: {describe_protocol(summary['protocol'])}", summary)
    print_explanation()

    def draw(path: Path) -> None:
        from benchmarks.ranking.plot import save_plot

        save_plot({data.name: summary}, path)

    options.print_json_and_draw(summary, as_json, plot, draw)


def _import_reviews(data: Path, folder: Path) -> "EventLog":
    """The reviews as an event log, which is named after the files' content: imported once.

    Raises:
      EventLogError: see `import_amazon`; or if there is no metadata, which is read last.
    """
    from pipelines.code_fingerprint import compute_code_fingerprint
    from sources.amazon import import_amazon
    from sources.event_log import EventLog, EventLogError

    files = [data] if data.is_file() else sorted(data.glob("*.json*"))
    if files and not any(path.name.lower().startswith("meta") for path in files):
        raise EventLogError(
            f"{data}: no file of metadata (meta*). The protocol's histories are of items and categories: "
            "give the directory that holds the reviews and their metadata."
        )
    digest = hashlib.sha256(compute_code_fingerprint(_SOURCE).encode())
    for path in files:
        digest.update(path.name.encode())
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    out = folder / f"log-{digest.hexdigest()[:16]}"
    if not out.exists():
        with show_progress() as progress:
            import_amazon(data, out, progress=progress)
    return EventLog(out)

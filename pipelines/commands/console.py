"""What the commands that write an event log share: their options, the progress shown, the summary printed."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sources.event_log import Progress

OutOption = Annotated[
    Path,
    typer.Option(
        "--out",
        help="Directory of the event log; must not exist yet, or be empty.",
        show_default=False,
        resolve_path=True,  # "." would no longer be the log once it is replaced by it
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the summary as one line of JSON.")]


@contextmanager
def show_progress() -> Iterator["Progress"]:
    """Shows on stderr what the yielded function is told, one bar for each thing that is done."""
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    with Bars(console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def report(description: str, done: int, total: int) -> None:
            if description not in tasks:
                tasks[description] = bars.add_task(description)
            bars.update(tasks[description], completed=done, total=total)

        yield report


def print_summary(out: Path, as_json: bool, more: Mapping[str, float] | None = None) -> None:
    """Prints what the event log at `out` holds on stdout, as a table or as one line of JSON.

    Args:
      out: the event log.
      as_json: print JSON.
      more: further numbers, by name.
    """
    from sources.event_log import EventLog
    from sources.log_summary import summarize

    log = EventLog(out)
    values = {
        "path": str(out),
        **dataclasses.asdict(log.manifest),
        **dataclasses.asdict(summarize(log)),
        **(more or {}),
    }
    if as_json:
        typer.echo(json.dumps(values, default=lambda time: time.isoformat()))
    else:
        _print_table(values)


def _print_table(values: Mapping[str, object]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE, show_header=False)
    for name, value in values.items():
        number = isinstance(value, int) and not isinstance(value, bool)
        text = f"{value:,}" if number else f"{value:.4f}" if isinstance(value, float) else str(value)
        table.add_row(name.removeprefix("num_").replace("_", " "), text)
    console = Console(markup=False, highlight=False)
    console.print(table)
    if values["synthetic"]:
        console.print("These events are synthetic: simulated, not observed.")

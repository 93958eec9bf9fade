"""The study as a table on a terminal."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.dien_speed.models import SHARED_ROWS
from benchmarks.dien_speed.peer_processes import describe_installation

# By the summary's key
_GOALS = {
    "dien_aux_over_din_time": ("dien+aux over din, time", "≤ 4"),
    "over_fastest_peer": ("dien over fastest", "≥ 3"),
    "aux_over_fastest_peer": ("dien+aux over fastest", "≥ 3"),
}
_PARTS = (None, "bilinear", "shared")


def print_report(summary: Mapping[str, Any]) -> None:
    """Prints what was measured, on stdout."""
    console = Console(markup=False, highlight=False)
    sizes = summary["sizes"]
    console.print(
        f"Training, {sizes['rows']:,} rows a step, each with its own {sizes['history']} events; "
        f"{summary['rounds']} rounds of {sizes['steps']} steps, in turns.\n{summary['machine']}.\n"
    )
    console.print(_make_table(summary))
    console.print(
        "rows/s: by the clock, the median over the rounds, and the middle half. rows/CPU s: per second of "
        "the processor, all threads together, which other jobs on the machine hardly lengthen. ×: how many "
        "times as fast our DIEN is, with the peer's form of attention, and with the auxiliary loss where the "
        "peer has it (+aux); the median of the rounds."
    )
    console.print(
        f"winnow: attention by an MLP, or bilinear; where it says shared, {SHARED_ROWS} rows are of one "
        "request and have its history, as in logs. Its head is given the history's mean and products "
        "besides what the peers' are; AdamW, the peers Adam; no dropout anywhere."
    )
    for name, text in summary["differs"].items():
        console.print(f"{name}: {text}.")
    console.print()
    _print_goals(console, summary)
    _print_bucketing(console, summary)
    if summary["skipped"]:
        console.print()
        for name, reason in summary["skipped"].items():
            console.print(f"{name}: not measured, {reason}.")
        # Whole lines, to be copied
        console.print(f"To have all peers:\n{describe_installation()}", soft_wrap=True)


def _make_table(summary: Mapping[str, Any]) -> Table:
    table = Table(box=box.SIMPLE)
    table.add_column("model")
    for name in ("rows/s", "middle half", "×", "rows/CPU s", "×"):
        table.add_column(name, justify="right")
    processor = summary["processor"]
    for name, rates in summary["rows_per_second"].items():
        table.add_row(
            name,
            f"{rates['p50']:,.0f}",
            f"{rates['p25']:,.0f}-{rates['p75']:,.0f}",
            _format_ratio(summary["over_peers"].get(name)),
            f"{processor['rows_per_second'][name]['p50']:,.0f}",
            _format_ratio(processor["over_peers"].get(name)),
        )
    return table


def _format_ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def _print_goals(console: Console, summary: Mapping[str, Any]) -> None:
    table = Table(box=box.SIMPLE)
    table.add_column("ratio")
    table.add_column("goal", justify="right")
    for name in ("MLP", "CPU", "bilinear", "CPU", "shared", "CPU"):
        table.add_column(name, justify="right")
    for key, (text, goal) in _GOALS.items():
        parts = [x if part is None else x[part] for part in _PARTS for x in (summary, summary["processor"])]
        table.add_row(text, goal, *(_format_ratio(part[key]) for part in parts))
    console.print(table)
    console.print(
        "Time of DIEN with the auxiliary loss over that of DIN with the same attention; rows/s of DIEN over "
        "those of the fastest peer's, whatever its attention, both without the auxiliary loss, and both with."
    )


def _print_bucketing(console: Console, summary: Mapping[str, Any]) -> None:
    rates, by_processor = (x["bucketing"] for x in (summary, summary["processor"]))
    console.print(
        f"Histories of mixed length (1 to {summary['sizes']['history']} events, a median of "
        f"{rates['median_length']:.0f}), with the auxiliary loss: {rates['padded']['p50']:,.0f} rows/s "
        f"padded to the longest, {rates['bucketed']['p50']:,.0f} in trimmed batches of like length, "
        f"{rates['ratio']:.2f} times as many ({by_processor['ratio']:.2f} of the processor)."
    )

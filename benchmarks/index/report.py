"""The study as tables on a terminal."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.index.data import DEPTH, DIMENSIONS
from benchmarks.index.engines import ENGINES, SERVED


def describe_protocol(summary: Mapping[str, Any]) -> str:
    """What was measured, on what."""
    protocol = summary["protocol"]
    return (
        f"{protocol['items']:,} unit vectors of {DIMENSIONS} dimensions, the {DEPTH} best by inner product, "
        f"one query at a time on one core;\n{protocol['queries']:,} queries in {protocol['rounds']} rounds.\n"
        f"{summary['machine']}"
    )


def print_report(summary: Mapping[str, Any]) -> None:
    """Prints a table per distribution on stdout, each with what the engines were set to."""
    console = Console(markup=False, highlight=False)
    console.print(describe_protocol(summary) + ".")
    for distribution, asked in summary["protocol"]["asked_recall"].items():
        engines = summary[distribution]
        console.print(_make_table(f"{distribution}, a recall@{DEPTH} of {asked} asked for", engines))
        for name in ENGINES:
            setting = "".join(f", {key} {value}" for key, value in engines[name]["setting"].items())
            built = f"built and tuned in {engines[name]['build_seconds']:.0f} s"
            console.print(f"{name}: {engines[name]['variant']}{setting}; {built}.")
        console.print()
    console.print(
        "× scan: queries per second over the exact scan's in the same round, in processor time; the median "
        "and the range of rounds. × wall: the median by the clock. served: how many times as fast "
        "scann_served is where the other finds as much; - where it does not."
    )


def _make_table(title: str, engines: Mapping[str, Any]) -> Table:
    table = Table(box=box.SIMPLE, title=title, title_justify="left")
    table.add_column("engine")
    for name in ("recall", "queries/s", "× scan", "range", "× wall", "served"):
        table.add_column(name, justify="right")
    for name in ENGINES:
        point = engines[name]
        faster = point["served_is_faster"]
        table.add_row(
            name,
            f"{point['recall_100']:.4f}",
            f"{point['qps']:,.0f}",
            f"{point['speedup']:.1f}",
            "-".join(f"{speedup:.{0 if speedup >= 10 else 1}f}" for speedup in point["speedup_range"]),
            f"{point['wall_speedup']:.1f}",
            "" if name == SERVED else f"{faster:.2f}" if faster else "-",
        )
    return table

"""The study as a table."""

from collections.abc import Mapping
from typing import Any

from benchmarks.prerank.report import SYNTHETIC
from benchmarks.ranking.models import DIEN, DIN, NONE


def print_report(heading: str, summary: Mapping[str, Any]) -> None:
    """Prints what one log gave: the table, and what it says.

    Args:
      heading: what was measured on, see `describe_protocol`.
      summary: see `summarize`.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False)
    console.print(heading)
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column("interest")  # the full study's longest names take two lines
    for column in ("AUC", "GAUC", "over DIN, points", "errors", "rows/s"):  # fits 80 columns
        table.add_column(column, justify="right", no_wrap=True)
    for row in summary["rows"]:
        gain = errors = ""
        if row["gain"] is not None:
            gain = f"{100 * row['gain']:+.1f} ({100 * row['gain_low']:.1f} to {100 * row['gain_high']:.1f})"
        if row["gain_errors"] is not None:
            errors = f"{row['gain_errors']:+.1f}"
        table.add_row(
            row["name"],
            _shorten(row["auc_mean"]) + ("" if row["auc_sd"] is None else f" ±{_shorten(row['auc_sd'])}"),
            _shorten(row["gauc_mean"]),
            gain,
            errors,
            f"{row['rows_per_second']:,.0f}",
        )
    console.print()
    console.print(table)
    console.print()
    for line in describe_findings(summary):
        console.print(line)
    console.print()


def print_explanation() -> None:
    """Prints what the columns are."""
    from rich.console import Console

    Console(markup=False, highlight=False).print(
        "AUC (± sd) and GAUC of the clicks on the test split, means over seeds; over DIN: the gain of AUC in "
        "points of .01, with its 95% interval by a paired bootstrap over users; errors: the gain in standard "
        "errors over seeds; rows/s: of training, per second of the processor."
    )


def describe_protocol(protocol: Mapping[str, Any]) -> str:
    """What was measured on, of a log's shown rows."""
    lines = [
        f"{protocol['test_rows']:,} shown rows of {protocol['test_users']:,} users in the last days, trained "
        f"on {protocol['train_rows']:,} earlier ones; split by time, seeds "
        f"{', '.join(map(str, protocol['seeds']))}. GAUC is of {protocol['gauc_kept_users']:.0%} of the "
        "users, whose rows are of both classes."
    ]
    if protocol["drawn_per_click"]:
        lines.append(f"{protocol['drawn_per_click']} rows without a click were drawn for each click.")
    if protocol["synthetic"]:
        lines.append(SYNTHETIC)
    return " ".join(lines)


def describe_findings(summary: Mapping[str, Any]) -> list[str]:
    """What the table says of the history and of its evolution, the ceiling, and the rows' notes."""
    rows = {row["name"]: row for row in summary["rows"]}
    dien, din, none = rows[DIEN], rows[DIN], rows[NONE]
    best = max((x for x in summary["rows"] if x["name"] not in (DIN, NONE)), key=lambda x: x["eval_auc_mean"])
    lines = [
        f"{DIEN} over {DIN}: {100 * dien['gain']:+.2f} points of AUC; best of DIEN's forms on the evaluation "
        f"split: {best['name']}, {100 * best['gain']:+.2f} on the test split. A history is worth "
        f"{100 * (din['auc_mean'] - none['auc_mean']):+.2f} points to {DIN}."
    ]
    oracle = summary["protocol"]["oracle_auc"]
    if oracle is not None:
        lines.append(f"The true click probabilities have AUC {oracle:.4f}: the ceiling.")
    return lines + [f"{row['name']}: {row['note']}." for row in summary["rows"] if row["note"]]


def _shorten(value: float) -> str:
    """Four digits of a number from 0 to 1."""
    return f"{value:.4f}".removeprefix("0")

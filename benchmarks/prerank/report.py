"""The study as a table."""

from collections.abc import Mapping
from typing import Any

from benchmarks.prerank.models import CONTROL, LEAK, LEAKING_TEACHER, STUDENT

SYNTHETIC = "These events are synthetic: simulated, not observed."


def print_report(summary: Mapping[str, Any]) -> None:
    """Prints the protocol, the table and what it says of a teacher that knows too much."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False)
    protocol = summary["protocol"]
    console.print(describe_protocol(protocol))
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column("model", no_wrap=True)
    for column in ("AUC", "GAUC", "gain, points", "gap", "cost"):  # fits 80 columns
        table.add_column(column, justify="right", no_wrap=True)
    for row in summary["rows"]:
        auc = _shorten(row["auc_mean"]) + ("" if row["auc_sd"] is None else f" ±{_shorten(row['auc_sd'])}")
        gain = share = ""
        if row["gain"] is not None:
            gain = f"{100 * row['gain']:+.1f} ({100 * row['gain_low']:.1f} to {100 * row['gain_high']:.1f})"
        if row["gap_share"] is not None:
            share = f"{row['gap_share']:.0%}"
        cost = f"{row['cost_ratio']:.2f}"
        table.add_row(row["name"], auc, _shorten(row["gauc_mean"]), gain, share, cost)
    console.print()
    console.print(table)
    console.print()
    console.print(
        "gain: of AUC over the control, in points of .01, with its 95% interval by a paired bootstrap over "
        "users; gap: its share of the teacher's gain, where that is one; cost: of training on a row, "
        "relative to the control, in seconds of the processor, a frozen teacher's own training included, its "
        "scoring of the student's rows, once, left out."
    )
    for line in describe_findings(summary):
        console.print(line)


def _shorten(value: float) -> str:
    """Four digits of a number from 0 to 1."""
    return f"{value:.4f}".removeprefix("0")


def describe_protocol(protocol: Mapping[str, Any]) -> str:
    """What was measured on, in a few lines."""
    rows = protocol["train_rows"]
    lines = [
        f"{protocol['source']}: AUC of clicks on {protocol['test_rows']:,} shown rows of "
        f"{protocol['test_users']:,} users in the last days; split by time, seeds "
        f"{', '.join(map(str, protocol['seeds']))}.",
        f"Trained on {rows['late']:,} rows; two-stage teachers on {rows['early']:,} earlier ones, joint ones "
        f"and 'all days' on all {rows['all']:,}. GAUC is of {protocol['gauc_kept_users']:.0%} of the users "
        f"({protocol['gauc_kept_rows']:.0%} of the rows), who have both classes.",
    ]
    if protocol["drawn_per_click"]:
        lines.append(
            f"All that was shown was clicked; {protocol['drawn_per_click']} rows for each click were drawn."
        )
    if protocol["oracle_auc"] is not None:
        lines.append(f"The ceiling: the simulator's own probabilities have AUC {protocol['oracle_auc']:.4f}.")
    if protocol["synthetic"]:
        lines.append(SYNTHETIC)
    return "\n".join(lines)


def describe_findings(summary: Mapping[str, Any]) -> list[str]:
    """What the table says of the control, the default student and the leaking teacher, if there is one."""
    rows = {row["name"]: row for row in summary["rows"]}
    student = rows[STUDENT]
    lines = [f"{STUDENT}: {100 * student['gain']:+.1f} points over {CONTROL}."]
    if LEAKING_TEACHER not in rows:
        return lines
    leaking, teacher = rows[f"{STUDENT}, {LEAK}"], rows[LEAKING_TEACHER]
    helps = "helps less" if leaking["gain"] < student["gain"] else "does not help less here"
    return [
        *lines,
        f"A teacher that is told how long the user looked, which tells it the label, has AUC "
        f"{teacher['auc_mean']:.4f} and {helps}: its student gains {100 * leaking['gain']:+.1f} points.",
    ]

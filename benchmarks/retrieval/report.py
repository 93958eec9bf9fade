"""The study as tables on a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.retrieval.models import WINNOW, ModelSpec
from benchmarks.retrieval.summary import SLICES, TABLE_METRICS

LABELS = {"recall_10": "recall@10", "recall_100": "recall@100", "ndcg_10": "NDCG@10"}
_SLICE_LABELS = {"all": "", "known_users": "  known users", "new_users": "  new users"}


def describe_protocol(protocol: Mapping[str, Any]) -> str:
    """The table's title."""
    kind = "SYNTHETIC log" if protocol["synthetic"] else "log"
    days = protocol["days"]
    seen = "removed" if protocol["seen_removed"] else "kept"
    return (
        f"Retrieval on the {kind} {protocol['source']}: {protocol['queries']:,} test clicks of "
        f"{protocol['users']:,} users ({protocol['known_users']} known, {protocol['new_users']} new), "
        f"{protocol['items']:,} items.\n"
        f"Split by time: train {' to '.join(days['train'])}, eval {' to '.join(days['eval'])}, "
        f"test {' to '.join(days['test'])}.\n"
        f"Seen items {seen}. Means over users; {describe_seeds(protocol)} where a model has one."
    )


def describe_seeds(protocol: Mapping[str, Any]) -> str:
    """What is said of the seeds: a single one has no deviation."""
    count = len(protocol["seeds"])
    return "1 seed" if count == 1 else f"± sd over {count} seeds"


def print_report(summary: Mapping[str, Any], models: Sequence[ModelSpec]) -> None:
    """Prints both tables, the notes and the machine on stdout."""
    console = Console(markup=False, highlight=False)
    console.print(describe_protocol(summary["protocol"]))
    console.print(_make_metric_table(summary, models))
    console.print(_make_comparison_table(summary))
    for model in models:
        if model.note:
            console.print(f"{model.name}: {model.note}.")
        for chosen in summary["protocol"]["chosen_on_eval_split"].get(model.name, []):
            console.print(f"{model.name}, chosen on the eval split: {_format_chosen(chosen)}.")
    console.print(summary["protocol"]["machine"])


def _make_metric_table(summary: Mapping[str, Any], models: Sequence[ModelSpec]) -> Table:
    table = Table(box=box.SIMPLE)
    table.add_column("model")
    for metric in TABLE_METRICS:
        table.add_column(LABELS[metric], justify="right")
    for model in models:
        for part in SLICES:
            cells = [_format(summary[model.name][part][m], model.is_seeded) for m in TABLE_METRICS]
            table.add_row(_SLICE_LABELS[part] or model.name, *cells)
    return table


def _make_comparison_table(summary: Mapping[str, Any]) -> Table:
    has_deviations = len(summary["protocol"]["seeds"]) > 1
    table = Table(
        box=box.SIMPLE,
        title=f"{WINNOW} minus the other, all users; intervals by paired bootstrap over users",
        title_justify="left",
    )
    table.add_column("other")
    table.add_column("metric")
    for name in ("difference", "95% interval") + ("sd over seeds",) * has_deviations:
        table.add_column(name, justify="right")
    for name, metrics in summary["comparisons"].items():
        for metric in TABLE_METRICS:
            value = metrics[metric]
            table.add_row(
                name if metric == TABLE_METRICS[0] else "",
                LABELS[metric],
                f"{value['difference']:+.4f}",
                f"{value['low']:+.4f} to {value['high']:+.4f}",
                *([f"{value['sd_over_seeds']:.4f}"] if has_deviations else []),
            )
    return table


def _format(value: Mapping[str, float | None], is_seeded: bool) -> str:
    if value["mean"] is None:
        return "-"
    if value["sd"] is None:
        return f"{value['mean']:.4f}"
    return f"{value['mean']:.4f}" + (f" ± {value['sd']:.4f}" if is_seeded else "         ")


def _format_chosen(chosen: Mapping[str, Any]) -> str:
    on_eval = chosen.get("eval", {})
    parts = [f"{name} {value:g}" for name, value in chosen.items() if name != "eval"]
    return ", ".join(parts + [f"{LABELS[name]} {value:.4f}" for name, value in on_eval.items()])

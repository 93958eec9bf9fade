"""A protocol's results as tables on a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.movielens.models import is_leaking
from benchmarks.movielens.protocols import LAST_OUT, RANDOM_SPLIT
from benchmarks.retrieval.models import WINNOW, ModelSpec
from benchmarks.retrieval.report import describe_seeds

_TITLES = {
    RANDOM_SPLIT.name: (
        "The TensorFlow Recommenders tutorials' protocol on {source}: {train:,} ratings to train,\n"
        "{asked:,} to find, split at random; {items:,} titles, {users:,} users.\n"
        "Top-k accuracy by id, seen titles removed and kept, the same scores for both; means over\n"
        "the ratings asked for, {seeds_told}."
    ),
    LAST_OUT.name: (
        "Leave-last-out on {source}: the last ratings of {asked:,} users to find, {train:,} earlier\n"
        "ones to train; {items:,} titles, all ranked, seen ones removed.\n"
        "Means over users, {seeds_told}."
    ),
}
_LABELS = {"ndcg_10": "NDCG@10"}


def describe_protocol(protocol: Mapping[str, Any]) -> str:
    """The table's title."""
    return _TITLES[protocol["name"]].format(**protocol, seeds_told=describe_seeds(protocol))


def print_report(summary: Mapping[str, Any], models: Sequence[ModelSpec]) -> None:
    """Prints both tables, the notes and the machine on stdout."""
    console = Console(markup=False, highlight=False)
    protocol = summary["protocol"]
    console.print(describe_protocol(protocol))
    console.print(_make_metric_table(summary, models))
    console.print(_make_comparison_table(summary["comparisons"], models))
    for model in models:
        console.print(f"{model.name}: {summary[model.name]['seconds']:.0f} s a seed. {model.note}")
        for chosen in protocol["chosen_on_validation"].get(model.name, []):
            values = ", ".join(f"{label(name)} {value:.4g}" for name, value in chosen.items())
            console.print(f"{model.name}, on the validation part: {values}.")
    console.print(protocol["machine"])


def _make_metric_table(summary: Mapping[str, Any], models: Sequence[ModelSpec]) -> Table:
    table = Table(box=box.SIMPLE)
    table.add_column("model")
    for name, _ in flatten(summary[WINNOW]):
        table.add_column(label(name), justify="right")
    leaking = [model for model in models if is_leaking(model)]
    for model in [x for x in models if x not in leaking] + leaking:
        if leaking and model is leaking[0]:
            table.add_row("leaking")
        values = summary[model.name]
        deviations = dict(flatten(values["sd"]))
        cells = [_format(value, deviations[name], model.is_seeded) for name, value in flatten(values)]
        table.add_row("  " * is_leaking(model) + model.name, *cells)
    return table


def _format(value: float, deviation: float | None, is_seeded: bool) -> str:
    if deviation is None:
        return f"{value:.4f}"
    return f"{value:.4f}" + (f" ±{deviation:.3f}" if is_seeded else " " * 7)


def _make_comparison_table(comparisons: Mapping[str, Any], models: Sequence[ModelSpec]) -> Table:
    table = Table(
        box=box.SIMPLE,
        title=f"{WINNOW} minus the other; 95% intervals by paired bootstrap over users",
        title_justify="left",
    )
    for name in ("other", "metric"):
        table.add_column(name)
    for name in ("difference", "95% interval"):
        table.add_column(name, justify="right")
    for model in models[1:]:
        if is_leaking(model):
            continue
        for place, (name, value) in enumerate(flatten(comparisons[model.name])):
            interval = f"{value['low']:+.4f} to {value['high']:+.4f}"
            table.add_row("" if place else model.name, label(name), f"{value['difference']:+.4f}", interval)
    return table


def flatten(metrics: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The metrics of a model, "removed top_10" for a nested one, without what else is said of it."""
    for name, value in metrics.items():
        if name in ("removed", "kept"):
            yield from ((f"{name} {inner}", x) for inner, x in value.items())
        elif name not in ("sd", "seconds"):
            yield name, value


def label(name: str) -> str:
    """How a metric is written."""
    if name in _LABELS:
        return _LABELS[name]
    return name.replace("_top_", " top-").replace("top_", "top-").replace("recall_", "recall@")

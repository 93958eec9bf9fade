"""What `winnow run` prints: the models' metrics and the gates' checks."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from components.report_text import describe_check, describe_pairs, describe_queries, describe_rows

_RETRIEVAL_COLUMNS = ("recall_10", "recall_100", "recall_500", "ndcg_10", "mrr")
_SCORE_COLUMNS = ("auc", "gauc", "log_loss", "calibration")


def make_tables(result: Mapping[str, Any]) -> Iterator[Table]:
    """The tables of a run's result; none of a stage that has not run."""
    if result["metrics"]:
        yield from _make_retrieval_tables(result["metrics"])
    for stage, metrics in (("Pre-ranking", result["prerank_metrics"]), ("Ranking", result["rank_metrics"])):
        if metrics:
            yield from _make_score_tables(stage, metrics)
    if result["checks"]:
        yield _make_gates_table(result["checks"])


def _make_retrieval_tables(metrics: Mapping[str, Any]) -> Iterator[Table]:
    title = f"Test split: {describe_queries(metrics)}"
    parts = ("all", "known_users", "new_users", "new_items")
    rows = [(name, part, slices[part]) for name, slices in metrics["models"].items() for part in parts]
    yield _make_metrics_table(title, "users", _RETRIEVAL_COLUMNS, rows)
    pairs = metrics["item_to_item"]
    if pairs is not None:
        title = f"Item to item: {describe_pairs(pairs)}"
        yield _make_metrics_table(title, "users", _RETRIEVAL_COLUMNS, _take_all(pairs["models"]))


def _make_score_tables(stage: str, metrics: Mapping[str, Any]) -> Iterator[Table]:
    """Of the first model, the candidate, by slice too."""
    title = f"{stage}: {describe_rows(metrics)}"
    (candidate, slices), *others = metrics["models"].items()
    rows = [(candidate, part, row) for part, row in slices.items()]
    yield _make_metrics_table(title, "rows", _SCORE_COLUMNS, rows + _take_all(dict(others)))
    if metrics["converted"]:
        title = "Conversions of the clicked rows"
        yield _make_metrics_table(title, "rows", _SCORE_COLUMNS, _take_all(metrics["converted"]))


def _take_all(models: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    return [(name, "all", slices["all"]) for name, slices in models.items()]


def _make_metrics_table(
    title: str, count: str, columns: Sequence[str], rows: Sequence[tuple[str, str, Mapping[str, Any]]]
) -> Table:
    """A row for each model and slice; fits 80 columns.

    Args:
      title: what was measured on what.
      count: of what the metrics are.
      columns: the metrics.
      rows: model, slice and their values; "all" is the model itself, the slices after it are below it.
    """
    table = Table(box=box.SIMPLE, title=title, title_justify="left", pad_edge=False)
    for column in ("model", count, *columns):
        table.add_column(column, justify="left" if column == "model" else "right")
    for name, part, row in rows:
        values = ["-" if row[c] is None else f"{row[c]:.4f}" for c in columns]
        table.add_row(name if part == "all" else f"  {part}", f"{row[count]:,}", *values)
    return table


def _make_gates_table(checks: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(
        box=box.SIMPLE,
        title="Gates",
        title_justify="left",
        caption="against: the lower bound of the difference, by paired bootstrap over users",
        caption_justify="left",
    )
    for column in ("stage", "check", "value", "bound", "verdict"):
        table.add_column(column, justify="right" if column in ("value", "bound") else "left")
    for check in checks:
        table.add_row(check["stage"], check["name"], *describe_check(check))
    return table

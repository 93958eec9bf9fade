"""The run's report as one page: verdict, gates, training curves, evaluation, index."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from components.report_text import describe_check, describe_pairs, describe_queries, describe_rows
from components.run_report.curves import RETRIEVAL, SCORER, SCORER_AUC, Curves, Stage
from components.run_report.elements import Cell, make_element, make_number, make_page, make_table
from components.run_report.plots import draw_comparison, draw_training

_ALL = "all"  # the slice of everything
_TITLE = "Run report"


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """What the page tells.

    Attributes:
      gate: the merged report of `FunnelGate`.
      pushed_version: "" where nothing was pushed.
      not_pushed_reason: why, where nothing was; see `version_pusher.REASON_PROPERTY`.
      retrieval_curves: by trainer.
      prerank_curves: by trainer.
      rank_curves: of the ranker's trainer.
      retrieval: the metrics of `RetrievalEvaluator`.
      prerank: those of `PrerankEvaluator`.
      rank: those of `RankEvaluator`.
      index: the report of `IndexBuilder`.
      is_synthetic: whether the events are simulated.
    """

    gate: Mapping[str, Any]
    pushed_version: str
    not_pushed_reason: str
    retrieval_curves: Mapping[str, Curves]
    prerank_curves: Mapping[str, Curves]
    rank_curves: Curves
    retrieval: Mapping[str, Any]
    prerank: Mapping[str, Any]
    rank: Mapping[str, Any]
    index: Mapping[str, Any]
    is_synthetic: bool


def render_page(facts: RunFacts) -> str:
    """The whole page; it loads nothing."""
    parts = [make_element("h1", _TITLE)]
    if facts.is_synthetic:
        parts.append(make_element("p", "The events are synthetic: simulated, not observed.", "dim"))
    parts += [
        *_render_verdict(facts),
        *_render_curves(facts),
        *_render_retrieval(facts.retrieval),
        *_render_scores("Pre-ranking", facts.prerank),
        *_render_scores("Ranking", facts.rank),
        *_render_index(facts.index),
    ]
    return make_page(_TITLE, parts)


def _render_verdict(facts: RunFacts) -> Iterator[str]:
    """What came of the run, what failed and by how much; then every check."""
    checks = facts.gate["checks"]
    failed = [check for check in checks if not check["passed"]]
    if facts.pushed_version:
        style, verdict = "good", f"Pushed as version {facts.pushed_version}"
    elif failed:
        style, verdict = "bad", "Not pushed: blocked by a gate"
    else:
        style, verdict = "", f"Not pushed: {facts.not_pushed_reason}"
    passed = f"{len(checks) - len(failed)} of {len(checks)} checks passed."
    lines = "".join(make_element("li", _describe_failure(check)) for check in failed)
    yield (
        f'<div class="verdict {style}">{make_element("strong", verdict)}{make_element("p", passed)}'
        + (f"<ul>{lines}</ul>" if failed else "")
        + "</div>"
    )
    yield make_element("h2", "Gates")
    yield make_table(("verdict", "stage", "check", "value", "bound"), [_make_check_row(c) for c in checks])


def _describe_failure(check: Mapping[str, Any]) -> str:
    value, bound, verdict = describe_check(check)
    return f"{check['stage']}: {check['name']}: {value}, expected {bound}: {verdict}"


def _make_check_row(check: Mapping[str, Any]) -> list[Cell]:
    value, bound, verdict = describe_check(check)
    return [
        Cell(verdict, "good" if check["passed"] else "bad"),
        Cell(check["stage"]),
        Cell(check["name"], note=check["detail"]),
        Cell(value, "number"),
        Cell(bound, "number"),
    ]


def _render_curves(facts: RunFacts) -> Iterator[str]:
    yield make_element("h2", "Training")
    yield make_element(
        "p",
        "Training loss, the student's with the teacher's part; recall, log loss and AUC on the evaluation "
        "split. A ring marks the epoch whose weights were kept.",
        "dim",
    )
    yield '<div class="plots">'
    for title, stage, trainers in (
        ("Retrieval", RETRIEVAL, facts.retrieval_curves),
        ("Pre-ranking", SCORER, facts.prerank_curves),
        ("Ranking", SCORER, {"ranker": facts.rank_curves}),
    ):
        for name, curves in trainers.items():
            drawn = draw_training(stage, curves)
            yield _render_plot(f"{title}: {name}", _describe_kept(stage, curves), drawn)
    drawn = draw_comparison(SCORER_AUC, "AUC", SCORER, facts.prerank_curves)
    yield _render_plot("Pre-ranking: side by side", "AUC of the click", drawn)
    yield "</div>"


def _describe_kept(stage: Stage, curves: Curves) -> str:
    kept = stage.find_kept_epoch(curves)
    if kept is None:
        return "no epoch was logged"
    figure = curves[stage.figure]
    return f"kept epoch {kept + 1} of {max(figure) + 1}: {stage.label} {figure[kept]:.4f}"


def _render_plot(title: str, caption: str, svg: str) -> str:
    head = make_element("strong", title) + make_element("div", caption, "dim")
    return f"<figure><figcaption>{head}</figcaption>{svg}</figure>"


def _render_retrieval(metrics: Mapping[str, Any]) -> Iterator[str]:
    yield make_element("h2", "Retrieval on the test split")
    yield make_element("p", f"{describe_queries(metrics)}.", "dim")
    yield from _render_models(metrics["models"])
    pairs = metrics["item_to_item"]
    if pairs is not None:
        yield make_element("h3", "Item to item")
        yield make_element("p", f"{describe_pairs(pairs)}.", "dim")
        yield from _render_models(pairs["models"])


def _render_scores(stage: str, metrics: Mapping[str, Any]) -> Iterator[str]:
    yield make_element("h2", f"{stage} on the test split")
    yield make_element("p", f"Chance of a click: {describe_rows(metrics)}.", "dim")
    yield from _render_models(metrics["models"])
    if metrics["converted"]:
        yield make_element("h3", "Conversion")
        yield make_element("p", "Of the clicked rows: chance of a conversion.", "dim")
        yield from _render_models(metrics["converted"])


def _render_models(models: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Iterator[str]:
    """The metrics of each model on everything, and below it those on the slices.

    Args:
      models: metric by name, by slice, by model.
    """
    yield _make_metrics_table(("model",), [((name,), slices[_ALL]) for name, slices in models.items()])
    places = dict.fromkeys(place for slices in models.values() for place in slices if place != _ALL)
    rows = [
        ((place, name), slices[place])
        for place in places
        for name, slices in models.items()
        if place in slices
    ]
    if rows:
        table = _make_metrics_table(("slice", "model"), rows)
        yield f"<details><summary>By slice</summary>{table}</details>"


def _make_metrics_table(heads: Sequence[str], rows: Sequence[tuple[Sequence[str], Mapping[str, Any]]]) -> str:
    """What a row is of, then its metrics; a column for each that any row has."""
    columns = list(dict.fromkeys(metric for _, metrics in rows for metric in metrics))
    cells = [
        [*map(Cell, labels), *(make_number(metrics.get(column)) for column in columns)]
        for labels, metrics in rows
    ]
    return make_table((*heads, *columns), cells)


def _render_index(report: Mapping[str, Any]) -> Iterator[str]:
    yield make_element("h2", "Index")
    yield make_element(
        "p",
        f"ScaNN beside an exact scan: {report['num_items']:,} items, the best {report['depth']:,}.",
        "dim",
    )
    rows = []
    for name, index in (("for users", report), ("for items", report["similar"])):
        latencies = [
            make_number(index[key][quantile])
            for key in ("latency_ms", "brute_force_latency_ms")
            for quantile in ("p50", "p99")
        ]
        leaves = Cell(f"{index['leaves_to_search']:,} of {index['leaves']:,}", "number")
        rows.append([Cell(name), make_number(index["recall"]), *latencies, leaves])
    columns = ("index", "recall", "p50 ms", "p99 ms", "exact p50 ms", "exact p99 ms", "leaves searched")
    yield make_table(columns, rows)

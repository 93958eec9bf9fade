"""Training curves as SVG that takes its colours and font from the page around it."""

import io
import re
from collections.abc import Mapping
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from components.run_report.curves import Curve, Curves, Stage

# Matplotlib takes colours alone: each of these stands for a variable of the page's style.
_INK, _LINE, _LOSS, _FIGURE = "#010101", "#010102", "#010103", "#010104"
_MODELS = ("#010105", "#010106", "#010107")
_VARIABLES = {
    _INK: "var(--ink)",
    _LINE: "var(--line)",
    _LOSS: "var(--blue)",
    _FIGURE: "var(--orange)",
    **dict(zip(_MODELS, ("var(--dim)", "var(--blue)", "var(--orange)"), strict=True)),
}
_DASHES = ((0, (4, 2)), "solid", "solid")
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "",  # the same ids for the same picture
    "font.size": 9,
    "text.color": _INK,
    "axes.edgecolor": _LINE,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 3,
}
_METADATA = ("Creator", "Date", "Format", "Type")
_SIZE = (3.8, 2.2)  # inches


@matplotlib.rc_context(_STYLE)
def draw_training(stage: Stage, curves: Curves) -> str:
    """A trainer's loss (left axis) and figure (right axis) over its epochs; the kept epoch is marked."""
    figure, axes = _make_axes()
    axes.set_ylabel("training loss", color=_LOSS)
    _plot(axes, curves.get(stage.loss, {}), color=_LOSS)
    axes.margins(y=0.15)  # unlike the right axis': of two epochs both lines go from corner to corner
    right = axes.twinx()
    right.set_ylabel(stage.label, color=_FIGURE)
    _plot(right, curves.get(stage.figure, {}), color=_FIGURE, kept=stage.find_kept_epoch(curves))
    return _render(figure)


@matplotlib.rc_context(_STYLE)
def draw_comparison(metric: str, label: str, stage: Stage, models: Mapping[str, Curves]) -> str:
    """One metric of up to three models on shared axes; each one's kept epoch is marked."""
    figure, axes = _make_axes()
    axes.spines["right"].set_visible(False)
    axes.set_ylabel(label)
    for (name, curves), colour, dashes in zip(models.items(), _MODELS, _DASHES, strict=False):
        kept = stage.find_kept_epoch(curves)
        _plot(axes, curves.get(metric, {}), color=colour, kept=kept, linestyle=dashes, label=name)
    axes.legend(frameon=False, ncols=len(models), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return _render(figure)


def _make_axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure, axes


def _plot(axes: Axes, curve: Curve, kept: int | None = None, **style: Any) -> None:
    """A curve with a point for each epoch, counted from 1, and a ring around the kept one."""
    axes.plot([epoch + 1 for epoch in curve], list(curve.values()), marker="o", **style)
    if kept in curve:
        axes.scatter(kept + 1, curve[kept], 80, facecolors="none", edgecolors=style["color"], linewidths=1.4)


def _render(figure: Figure) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata=dict.fromkeys(_METADATA))
    drawn = stream.getvalue()
    svg = re.sub(r'<g id="[^"]*"', "<g", drawn[drawn.index("<svg") :])  # ids would meet those of others
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg

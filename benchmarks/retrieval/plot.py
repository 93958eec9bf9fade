"""The study as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from benchmarks.retrieval.models import WINNOW, ModelSpec
from benchmarks.retrieval.report import LABELS, describe_protocol

PLOT_METRICS = ("recall_10", "recall_100")
_PANELS = {"known_users": "known users", "new_users": "new users"}
_OURS, _OTHERS, _CEILING = "#c2410c", "#64748b", "#cbd5e1"


def save_plot(summary: Mapping[str, Any], models: Sequence[ModelSpec], path: Path) -> None:
    """Writes a picture: a row of panels per metric, a panel per slice of users, a bar per model.

    Args:
      summary: of `summarize`.
      models: the bars, top to bottom.
      path: the file.
    """
    height = 0.34 * len(models) + 0.9
    figure, panels = plt.subplots(
        len(PLOT_METRICS),
        len(_PANELS),
        figsize=(10, height * len(PLOT_METRICS) + 1.2),
        sharey=True,
        layout="constrained",
    )
    for row, metric in zip(panels, PLOT_METRICS, strict=True):
        longest = max(_reach(summary[model.name][part][metric]) for model in models for part in _PANELS)
        for axes, (part, label) in zip(row, _PANELS.items(), strict=True):
            values = [summary[model.name][part][metric] for model in models]
            _draw_bars(axes, values, models)
            count = summary["protocol"][part]
            axes.set_xlim(0.0, 1.15 * longest)  # one scale for both kinds of users, with room for the labels
            axes.set_title(f"{LABELS[metric]}, {count} {label}", fontsize=10, loc="left")
    title = describe_protocol(summary["protocol"])
    if len(summary["protocol"]["seeds"]) > 1:
        title += "\nBlack lines: ± one standard deviation over seeds, for models that have one."
    figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    figure.savefig(path, dpi=140)
    plt.close(figure)


def _draw_bars(axes: Axes, values: Sequence[Mapping[str, float | None]], models: Sequence[ModelSpec]) -> None:
    """One panel; each bar is labelled with its value."""
    places = np.arange(len(models))[::-1]
    means = np.array([value["mean"] or 0.0 for value in values])
    deviations = np.array([value["sd"] or 0.0 for value in values])
    colours = [_pick_colour(model) for model in models]
    axes.barh(places, means, color=colours, height=0.7)
    spread = zip(values, models, strict=True)
    seeded = np.array([model.is_seeded and value["sd"] is not None for value, model in spread])
    axes.errorbar(
        means[seeded], places[seeded], xerr=deviations[seeded], fmt="none", ecolor="black", capsize=3, lw=1
    )
    for place, value, mean, deviation in zip(places, values, means, deviations, strict=True):
        text = "no user" if value["mean"] is None else f"{mean:.3f}"
        axes.annotate(
            text,
            (mean + deviation, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(places, [model.name for model in models], fontsize=9)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _reach(value: Mapping[str, float | None]) -> float:
    """Where a bar with its error bar ends."""
    return (value["mean"] or 0.0) + (value["sd"] or 0.0)


def _pick_colour(model: ModelSpec) -> str:
    if model.name == WINNOW:
        return _OURS
    return _CEILING if model.name.startswith("oracle") else _OTHERS

"""A protocol's results as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from benchmarks.movielens.models import is_leaking
from benchmarks.movielens.report import describe_protocol, flatten, label
from benchmarks.retrieval.models import WINNOW, ModelSpec

_OURS, _OTHERS, _LEAKING = "#c2410c", "#64748b", "#cbd5e1"


def save_plot(summary: Mapping[str, Any], models: Sequence[ModelSpec], path: Path) -> None:
    """Writes a picture: a panel per metric, a bar per model; the leaking ones are pale.

    Args:
      summary: of `summarize`.
      models: the bars, top to bottom.
      path: the file.
    """
    metrics = [name for name, _ in flatten(summary[WINNOW])]
    size = (10, (0.3 * len(models) + 0.7) * 2 + 1.0)
    figure, panels = plt.subplots(2, len(metrics) // 2, figsize=size, sharey=True, layout="constrained")
    places = np.arange(len(models))[::-1]
    colours = [_LEAKING if is_leaking(x) else _OURS if x.name == WINNOW else _OTHERS for x in models]
    for axes, metric in zip(panels.ravel(), metrics, strict=True):
        values = [dict(flatten(summary[model.name]))[metric] for model in models]
        # Unknown ones, of a single seed, are no lines
        deviations = [dict(flatten(summary[model.name]["sd"]))[metric] or 0.0 for model in models]
        axes.barh(places, values, xerr=deviations, color=colours, height=0.7)
        axes.set_xlim(0.0, 1.2 * max(values))
        axes.set_yticks(places, [model.name for model in models], fontsize=9)
        for place, value, deviation in zip(places, values, deviations, strict=True):
            axes.annotate(f" {value:.3f}", (value + deviation, place), va="center", fontsize=8)
        axes.set_title(label(metric), fontsize=10, loc="left")
        axes.tick_params(axis="x", labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(describe_protocol(summary["protocol"]), fontsize=9, x=0.01, ha="left")
    figure.savefig(path, dpi=140)
    plt.close(figure)

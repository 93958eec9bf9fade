"""The study as a picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.index.engines import BRUTE_FORCE, FAISS, HNSWLIB, SCANN, SERVED
from benchmarks.index.report import describe_protocol
from benchmarks.index.summary import spread_recall

_STYLES: dict[str, dict[str, Any]] = {
    SERVED: {"color": "#c2410c", "marker": "o", "lw": 2.0, "zorder": 3},
    SCANN: {"color": "#fdba74", "marker": ".", "lw": 1.2},
    HNSWLIB: {"color": "#0f766e", "marker": "s", "ms": 3.5, "lw": 1.2},
    FAISS: {"color": "#1d4ed8", "marker": "^", "ms": 4.0, "lw": 1.2},
}
_TICKS = (0.8, 0.9, 0.95, 0.98, 0.99, 0.999)


def save_plot(summary: Mapping[str, Any], path: Path) -> None:
    """Writes a picture: a panel per distribution, a curve per engine, and what is quoted of the served one.

    Args:
      summary: of `summarize`.
      path: the file.
    """
    asked = summary["protocol"]["asked_recall"]
    figure, panels = plt.subplots(1, len(asked), figsize=(11, 4.2), sharey=True, layout="constrained")
    for axes, (distribution, recall) in zip(panels, asked.items(), strict=True):
        _draw_curves(axes, summary[distribution], recall)
        axes.set_title(f"{distribution}, asked for {recall}", fontsize=10, loc="left")
    panels[0].set_ylabel("queries per second", fontsize=9)
    panels[-1].legend(fontsize=8, frameon=False, loc="upper right")
    figure.suptitle(describe_protocol(summary), fontsize=9, x=0.01, ha="left")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _draw_curves(axes: Axes, engines: Mapping[str, Any], asked: float) -> None:
    for name, style in _STYLES.items():
        points = engines[name]["points"]
        places = [_place(point) for point in points]
        axes.plot(places, [point["qps"] for point in points], label=name, **style)
    # What is quoted of the served index is what it chose, which another of its points may beat
    served = engines[SERVED]
    axes.plot(_place(served), served["qps"], **_STYLES[SERVED])
    axes.axhline(engines[BRUTE_FORCE]["qps"], color="#64748b", ls="--", lw=1, label=BRUTE_FORCE)
    axes.axvline(spread_recall(asked), color="#cbd5e1", lw=1, zorder=0)
    axes.set_yscale("log")
    axes.set_xlim(spread_recall(_TICKS[0]) - 0.05, spread_recall(0.9995) + 0.1)
    axes.set_xticks([spread_recall(tick) for tick in _TICKS], [f"{tick:g}" for tick in _TICKS], fontsize=8)
    axes.set_xlabel("recall@100", fontsize=9)
    axes.tick_params(axis="y", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _place(point: Mapping[str, Any]) -> float:
    """Where a recall stands, 1 at the edge."""
    return min(spread_recall(point["recall_100"]), spread_recall(0.9995))

"""The study as a picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from benchmarks.prerank.report import SYNTHETIC
from benchmarks.ranking.models import DIN, NONE

_COLOURS = {NONE: "#64748b", DIN: "#0f172a"}
_DIEN = "#c2410c"


def save_plot(summaries: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Writes a picture: for each log, AUC minus DIN's with its interval, a line for each row.

    Args:
      summaries: of `summarize`, by the log's title.
      path: the file.
    """
    rows = next(iter(summaries.values()))["rows"]
    places = {row["name"]: place for place, row in enumerate(reversed(rows))}
    figure, axes = plt.subplots(
        1,
        len(summaries),
        figsize=(2 + 4 * len(summaries), 0.34 * len(rows) + 1.6),
        sharey=True,
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, (title, summary) in zip(axes[0], summaries.items(), strict=True):
        axis.axvline(0.0, color=_COLOURS[DIN], lw=0.8, ls=":")
        for row in summary["rows"]:
            place = places[row["name"]]
            if row["gain"] is not None:
                bounds = 100 * np.array([row["gain_low"], row["gain_high"]])
                axis.plot(bounds, [place, place], color="black", lw=1)
            gain = 100 * (row["gain"] or 0.0)
            axis.plot(gain, place, "o", color=_COLOURS.get(row["name"], _DIEN), ms=7)
            axis.annotate(
                f"{row['auc_mean']:.4f}",
                (1.0, place),
                xycoords=("axes fraction", "data"),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("AUC over DIN, points of .01 (95%, users)")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_yticks(list(places.values()), list(places))
    if any(x["protocol"]["synthetic"] for x in summaries.values()):
        figure.text(0.99, -0.01, SYNTHETIC, ha="right", va="top", fontsize=7, color="#64748b")
    figure.savefig(path, dpi=150, bbox_inches="tight")
    plt.close(figure)

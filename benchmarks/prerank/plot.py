"""The study as a picture."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from benchmarks.prerank.models import CONTROL, LEAKING_TEACHER, STUDENT
from benchmarks.prerank.report import describe_protocol

_STUDENT, _TEACHER, _CONTROL, _OTHER = "#c2410c", "#cbd5e1", "#0f172a", "#64748b"


def save_plot(summary: Mapping[str, Any], path: Path) -> None:
    """Writes a picture: AUC with intervals on the left, the cost of training on the right, a line per row.

    Args:
      summary: of `summarize`.
      path: the file.
    """
    rows = summary["rows"]
    places = np.arange(len(rows))[::-1]
    control = next(row for row in rows if row["name"] == CONTROL)["auc_mean"]
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10, 0.32 * len(rows) + 2), sharey=True, width_ratios=(3, 1), layout="constrained"
    )
    left.axvline(control, color=_CONTROL, lw=0.8, ls=":")
    for place, row in zip(places, rows, strict=True):
        if row["name"] == LEAKING_TEACHER:  # at 1, where the others' differences would not be seen
            left.annotate(
                f"{row['auc_mean']:.4f} →",
                (1.0, place),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="center",
                fontsize=8,
            )
            continue
        if row["gain"] is not None:
            left.plot(
                [control + row["gain_low"], control + row["gain_high"]], [place, place], color="black", lw=1
            )
        left.plot(row["auc_mean"], place, "o", color=_pick_colour(row["name"]), ms=7)
        left.annotate(
            f"{row['auc_mean']:.4f}",
            (max(row["auc_mean"], control + (row["gain_high"] or 0.0)), place),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    oracle = summary["protocol"]["oracle_auc"]
    if oracle is not None:
        left.axvline(oracle, color=_OTHER, lw=0.8, ls="--")
        left.annotate("oracle", (oracle, places[0] + 0.6), ha="right", fontsize=8, color=_OTHER)
    left.set_yticks(places, [row["name"] for row in rows], fontsize=9)
    left.margins(x=0.12)
    left.set_title("AUC on the test split; lines: 95% of the gain over the control", fontsize=9, loc="left")
    right.barh(places, [row["cost_ratio"] for row in rows], color=_OTHER, height=0.6)
    right.axvline(1.0, color=_CONTROL, lw=0.8, ls=":")
    right.set_title("training cost / control's", fontsize=9, loc="left")
    for axes in (left, right):
        axes.tick_params(axis="x", labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    protocol = "\n".join(
        textwrap.fill(line, 140) for line in describe_protocol(summary["protocol"]).splitlines()
    )
    figure.suptitle(protocol, fontsize=8, x=0.01, ha="left")
    figure.savefig(path, dpi=140)
    plt.close(figure)


def _pick_colour(name: str) -> str:
    if name == CONTROL:
        return _CONTROL
    if name.startswith("teacher"):
        return _TEACHER
    return _STUDENT if name == STUDENT else _OTHER

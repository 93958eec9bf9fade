"""How a request's time grows, as a picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np


def save_plot(result: Mapping[str, Any], path: Path) -> None:
    """Writes a picture: the time of a request by its history's length, and by its candidates.

    Args:
      result: of `measure_serving`.
      path: the file.
    """
    fixed = {
        "history": f"{result['candidates']} candidates",
        "candidates": f"a history of {result['history']}",
    }
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, (name, growth) in zip(axes, result["growth"].items(), strict=True):
        sizes, medians, slowest = (
            np.array([point[key] for point in growth["points"]]) for key in ("size", "p50_ms", "p99_ms")
        )
        line = np.polyfit(sizes, medians, 1)
        ends = np.array([0, sizes.max()])
        axis.plot(ends, np.polyval(line, ends), color="#94a3b8", lw=1, label="line through the medians")
        axis.plot(sizes, medians, "o", color="#c2410c", label="median")
        axis.plot(sizes, slowest, "_", color="#0f172a", ms=12, label="99th percentile")
        axis.set_title(f"{fixed[name]}, R² {growth['r_squared']:.3f}", fontsize=10)
        axis.set_xlabel("events of the history" if name == "history" else "candidates")
        axis.set_ylabel("ms for one request")
        axis.set_ylim(0)
        axis.set_xlim(0)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)

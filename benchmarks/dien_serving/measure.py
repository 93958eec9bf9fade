"""How long a request takes: one encoding of the history against one for each candidate; and how it grows."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.dien_serving.models import RequestShape, export, make_inputs
from trainers.ranking.config import RankerConfig

SHARED = "one encoding"
TILED = "tiled history"
_WARM_UP = 10
_EXPORTS = {
    SHARED: {"tiled": False, "xla": False},
    f"{SHARED}, XLA": {"tiled": False, "xla": True},
    TILED: {"tiled": True, "xla": False},
    f"{TILED}, XLA": {"tiled": True, "xla": True},
}
LENGTHS = (10, 25, 50, 100, 200)
CANDIDATES = (50, 100, 200, 400, 800)


def measure_serving(
    config: RankerConfig, shape: RequestShape, rounds: int, report: Callable[[str], None]
) -> dict[str, Any]:
    """Measures requests in turns, so that what else the machine does falls on all alike.

    Args:
      config: of the ranker.
      shape: of the request that is compared.
      rounds: how often each is asked.
      report: told of the progress.

    Returns:
      `p50_ms` and `p99_ms` of the export that encodes a history once; `exports`, the same of each export by
      name; `ratio`, of the medians of the tiled and of the shared export, both without XLA; `growth`: by
      `history` and `candidates`, `points` with `size`, `p50_ms` and `p99_ms`, and `r_squared` of a line
      through the medians.
    """
    with tempfile.TemporaryDirectory() as folder:
        report(f"exporting for {shape.candidates} candidates and a history of {shape.history}")
        calls = {name: export(config, shape, Path(folder), **how) for name, how in _EXPORTS.items()}
        exports = _time({name: (call, shape) for name, call in calls.items()}, rounds, report)
        growth = {}
        for name, shapes in (
            ("history", {x: RequestShape(shape.candidates, x) for x in LENGTHS}),
            ("candidates", {x: RequestShape(x, shape.history) for x in CANDIDATES}),
        ):
            report(f"growing the {name}: {', '.join(map(str, shapes))}")
            asked = {
                str(size): (export(config, x, Path(folder), tiled=False, xla=False), x)
                for size, x in shapes.items()
            }
            times = _time(asked, max(rounds // 2, 1), report)
            points = [{"size": int(size), **values} for size, values in times.items()]
            growth[name] = {"points": points, "r_squared": _fit_line(points)}
    return {
        "candidates": shape.candidates,
        "history": shape.history,
        "units": config.units,
        "rounds": rounds,
        **exports[SHARED],
        "exports": exports,
        "ratio": exports[TILED]["p50_ms"] / exports[SHARED]["p50_ms"],
        "growth": growth,
    }


def _time(
    calls: Mapping[str, tuple[Callable[..., Any], RequestShape]], rounds: int, report: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """Milliseconds of each call, median and 99th percentile; users differ from round to round."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(_WARM_UP + rounds):
        for name, (call, shape) in calls.items():
            inputs = make_inputs(shape, seed=number)
            start = time.perf_counter()
            call(inputs).numpy()
            if number >= _WARM_UP:
                times[name].append(1000 * (time.perf_counter() - start))
    found = {}
    for name, values in times.items():
        p50, p99 = np.percentile(values, [50, 99])
        found[name] = {"p50_ms": float(p50), "p99_ms": float(p99)}
        report(f"{name}: {p50:.2f} ms, p99 {p99:.2f} ms")
    return found


def _fit_line(points: Sequence[Mapping[str, float]]) -> float:
    """R² of a line through the medians."""
    sizes, medians = (np.array([point[name] for point in points]) for name in ("size", "p50_ms"))
    fitted = np.polyval(np.polyfit(sizes, medians, 1), sizes)
    return float(1.0 - np.sum((medians - fitted) ** 2) / np.sum((medians - medians.mean()) ** 2))

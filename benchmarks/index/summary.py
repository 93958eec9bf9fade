"""What a study's results come to: one operating point per engine, and the others where they find as much."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.index.engines import ENGINES, SERVED
from benchmarks.index.study import ASKED_RECALLS, PACKAGES, Measured, Protocol
from benchmarks.machine import describe_machine

MOST_RECALL = 0.99999  # where 1 stands on a scale of log(1 - recall)


def summarize(results: Sequence[Measured], protocol: Protocol) -> dict[str, Any]:
    """Everything the table, the picture and the JSON show.

    Queries per second are the exact scan's median over the distribution, times how many times as fast the
    engine was in its own rounds, in processor time: so any two are figures of one machine in one state, and
    other jobs that had the core for a while count for neither.

    Args:
      results: of `study.run_study`.
      protocol: what was measured.

    Returns:
      for each distribution and engine one point: the fastest that reached the recall that is asked, or the
      one of the highest recall, and of the served index what it chose itself; with `points`, all that no
      other point of the engine beats. And the `protocol` and the `machine`.
    """
    summary: dict[str, Any] = {}
    for distribution, asked in ASKED_RECALLS.items():
        ours = [result for result in results if result.distribution == distribution]
        scan_qps = float(np.median([qps for r in ours for point in r.points for qps in point.scan_qps]))
        points = {name: _list_points([r for r in ours if r.engine == name], scan_qps) for name in ENGINES}
        served = next(point for point in points[SERVED] if point["setting"]["target"] == asked)
        engines = {name: _quote(keep_front(points[name]), asked, served) for name in ENGINES}
        engines[SERVED].update(served)  # at what it chose for this recall, whatever it reached
        summary[distribution] = engines
    summary["protocol"] = {
        "items": protocol.num_items,
        "queries": protocol.num_measured,
        "tuning_queries": protocol.num_tuning,
        "rounds": protocol.rounds,
        "seed": protocol.seed,
        "asked_recall": ASKED_RECALLS,
    }
    summary["machine"] = describe_machine(PACKAGES)
    return summary


def _list_points(results: Sequence[Measured], scan_qps: float) -> list[dict[str, Any]]:
    return [
        {
            "recall_100": point.recall,
            "qps": scan_qps * float(np.median(point.cpu_speedups)),
            "speedup": float(np.median(point.cpu_speedups)),
            "speedup_range": [min(point.cpu_speedups), max(point.cpu_speedups)],
            "wall_speedup": float(np.median(point.speedups)),
            "p50_ms": point.p50_ms,
            "p99_ms": point.p99_ms,
            "variant": result.variant,
            "setting": point.setting,
            "build_seconds": result.build_seconds,
        }
        for result in results
        for point in result.points
    ]


def keep_front(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """An engine's points that no other of its points beats in speed and recall, the fastest first."""
    front: list[dict[str, Any]] = []
    for point in sorted(points, key=lambda p: (-p["qps"], -p["recall_100"])):
        if not front or point["recall_100"] > front[-1]["recall_100"]:
            front.append(point)
    return front


def interpolate_qps(curve: Sequence[Mapping[str, Any]], recall: float) -> float | None:
    """An engine's queries per second where it finds that much.

    Args:
      curve: of `keep_front`.
      recall: in [0, 1].

    Returns:
      the logarithm interpolated over log(1 - recall), in which curves are nearly straight; the fastest
      point's where all find more; None where none finds as much.
    """
    if not curve or recall > curve[-1]["recall_100"]:
        return None
    places = [spread_recall(point["recall_100"]) for point in curve]
    return float(np.exp(np.interp(spread_recall(recall), places, np.log([p["qps"] for p in curve]))))


def spread_recall(recall: float) -> float:
    """The number of nines: .9 is 1, .99 is 2."""
    return float(-np.log10(1.0 - min(recall, MOST_RECALL)))


def _quote(curve: Sequence[dict[str, Any]], asked: float, served: Mapping[str, Any]) -> dict[str, Any]:
    """The fastest point of a curve that reached the recall, or its last; and how `served` compares."""
    quoted = next((point for point in curve if point["recall_100"] >= asked), curve[-1])
    equal = interpolate_qps(curve, served["recall_100"])
    return {
        **quoted,
        "qps_at_served_recall": equal,
        "served_is_faster": served["qps"] / equal if equal else None,
        "points": curve,
    }

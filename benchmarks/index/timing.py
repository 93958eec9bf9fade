"""Times one engine at a time, a query at a time on one core, in turn with the exact scan."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from benchmarks.index.data import DEPTH, Asked, SearchData, compute_recalls

Setting = Mapping[str, Any]

_WARM_UP = 10  # queries; what ran before has filled the caches with its own
_SCANS_PER_ROUND = 10
_LEAST_RECALL = 0.8  # below it a setting is of no interest


class Searcher(Protocol):
    """A built index."""

    def prepare(self, setting: Setting) -> Callable[[np.ndarray], Any]:
        """What answers a query [D] at this setting, until it is called for another."""

    def read(self, answer: Any) -> np.ndarray:
        """The rows of an answer [at most k]; not timed."""


class ExactScan:
    """What one writes without an index: one matrix product, the k largest, sorted."""

    def __init__(self, items: np.ndarray):
        self._items = items

    def prepare(self, setting: Setting) -> Callable[[np.ndarray], np.ndarray]:
        """There is nothing to set."""
        return self._search

    def read(self, answer: np.ndarray) -> np.ndarray:
        """The rows as they are."""
        return answer

    def _search(self, query: np.ndarray) -> np.ndarray:
        scores = self._items @ query
        best = np.argpartition(scores, -DEPTH)[-DEPTH:]
        return best[np.argsort(-scores[best])]


@dataclasses.dataclass(frozen=True)
class Point:
    """One setting of one engine, measured.

    Attributes:
      setting: of the engine.
      recall: mean over the queries of the right share of `DEPTH` answers.
      speedups: how many times the exact scan's queries per second, of each round.
      cpu_speedups: the same in processor time, which waiting for other jobs does not lengthen.
      scan_qps: the exact scan's queries per second, of each round.
      p50_ms: median latency.
      p99_ms: its 99th percentile.
    """

    setting: dict[str, Any]
    recall: float
    speedups: list[float]
    cpu_speedups: list[float]
    scan_qps: list[float]
    p50_ms: float
    p99_ms: float


def choose_settings(searcher: Searcher, settings: Sequence[Setting], data: SearchData) -> list[Setting]:
    """The settings worth measuring: on the tuning queries none other is as fast and finds as much.

    Args:
      searcher: the index.
      settings: what can be set.
      data: whose tuning queries are asked.

    Returns:
      the settings, slowest last, each of higher recall than those before; where none finds most of what is
      right, the one that finds the most.
    """
    with on_one_core():
        tried = []
        for setting in settings:
            answers, timed = _time_queries(searcher.prepare(setting), data.tuning.queries)
            recall = _compute_recall(searcher, answers, data.items, data.tuning)
            tried.append((float(np.median(timed.seconds)), recall, setting))
    front: list[tuple[float, Setting]] = []
    for _, recall, setting in sorted(tried, key=lambda trial: trial[:2]):
        if not front or recall > front[-1][0]:
            front.append((recall, setting))
    return [setting for recall, setting in front if recall >= _LEAST_RECALL] or [front[-1][1]]


def measure(searcher: Searcher, settings: Sequence[Setting], data: SearchData, rounds: int) -> list[Point]:
    """Recall and speed of each setting on the measured queries, each of which is asked once.

    Args:
      searcher: the index.
      settings: the points of its curve.
      data: whose measured queries are asked.
      rounds: how often the exact scan and the engine take turns.

    Returns:
      a point per setting.
    """
    scan = ExactScan(data.items)
    points = []
    with on_one_core():
        for setting in settings:
            search = searcher.prepare(setting)
            recalls, scans, times = [], [], []
            for part in _split(data.measured, rounds):
                _, scanned = _time_warm(scan.prepare({}), part.queries[:_SCANS_PER_ROUND])
                answers, timed = _time_warm(search, part.queries)
                recalls += [_compute_recall(searcher, answers, data.items, part)] * len(answers)
                scans.append(scanned)
                times.append(timed)
            points.append(_make_point(setting, float(np.mean(recalls)), scans, times))
    return points


@dataclasses.dataclass(frozen=True)
class _Timed:
    """The seconds of each query, and of the processor for one of them on average."""

    seconds: np.ndarray
    cpu_seconds: float


def _time_warm(search: Callable[[np.ndarray], Any], queries: np.ndarray) -> tuple[list[Any], _Timed]:
    """Times the queries, the first of which are asked once before."""
    for query in queries[:_WARM_UP]:
        search(query)
    return _time_queries(search, queries)


def _time_queries(search: Callable[[np.ndarray], Any], queries: np.ndarray) -> tuple[list[Any], _Timed]:
    answers, times = [], [time.perf_counter()]
    start = time.process_time()  # of all threads
    for query in queries:
        answers.append(search(query))
        times.append(time.perf_counter())
    return answers, _Timed(np.diff(times), (time.process_time() - start) / len(queries))


def _make_point(setting: Setting, recall: float, scans: list[_Timed], times: list[_Timed]) -> Point:
    p50, p99 = np.percentile(1000 * np.concatenate([timed.seconds for timed in times]), [50, 99])
    rounds = list(zip(scans, times, strict=True))
    return Point(
        setting=dict(setting),
        recall=recall,
        speedups=[float(scan.seconds.mean() / timed.seconds.mean()) for scan, timed in rounds],
        cpu_speedups=[scan.cpu_seconds / timed.cpu_seconds for scan, timed in rounds],
        scan_qps=[1 / float(scan.seconds.mean()) for scan in scans],
        p50_ms=float(p50),
        p99_ms=float(p99),
    )


def _compute_recall(searcher: Searcher, answers: Sequence[Any], items: np.ndarray, asked: Asked) -> float:
    found = np.full((len(answers), DEPTH), -1, np.int64)
    for row, answer in zip(found, answers, strict=True):
        rows = searcher.read(answer)
        row[: len(rows)] = rows
    return float(compute_recalls(items, asked, found).mean())


def _split(asked: Asked, parts: int) -> Iterator[Asked]:
    columns = (np.array_split(column, parts) for column in (asked.queries, asked.rows, asked.floors))
    return (Asked(*part) for part in zip(*columns, strict=True))


def grow(first: int, last: int, step: float) -> list[int]:
    """Settings from the first to the last, each about `step` times the one before."""
    count = round(np.log(last / first) / np.log(step)) + 1
    return np.unique(np.geomspace(first, last, count).round().astype(int)).tolist()


@contextlib.contextmanager
def on_one_core() -> Iterator[None]:
    """Keeps every thread of this process on one core, so that no engine has help from a second one."""
    allowed = os.sched_getaffinity(0)
    _pin({min(allowed)})
    try:
        yield
    finally:
        _pin(allowed)


def _pin(cores: set[int]) -> None:
    for thread in os.listdir("/proc/self/task"):
        # A thread may end between the two lines.
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread), cores)

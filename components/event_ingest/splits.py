"""The split by time: whole days, the oldest for training, the newest for testing."""

import datetime as dt
from collections.abc import Iterable, Mapping

import numpy as np

SPLITS = ("train", "eval", "test")


def compute_split_days(
    rows_per_day: Mapping[dt.date, int], eval_fraction: float, test_fraction: float
) -> tuple[dt.date, dt.date]:
    """Finds the days on which evaluation and test begin.

    The cuts fall between days, where the share of rows from there on is nearest to what was asked;
    each split keeps at least one day, and training two: a teacher learns from older ones than its student.

    Args:
      rows_per_day: rows of each day.
      eval_fraction: share of the rows for evaluation (early stopping, tuning).
      test_fraction: share of the rows for the test, the newest.

    Returns:
      the first day of the evaluation split and the first day of the test split.

    Raises:
      ValueError: if there are fewer than four days.
    """
    days = sorted(rows_per_day)
    if len(days) < 4:
        raise ValueError(
            f"the event log covers {len(days)} day(s); a split by time needs at least 4: two for training, "
            "of which a teacher has the older, one for evaluation, one for the test"
        )
    rows = np.array([rows_per_day[day] for day in days], dtype=np.float64)
    share_before = np.concatenate([[0.0], np.cumsum(rows)[:-1]]) / max(rows.sum(), 1.0)
    test = 3 + int(np.argmin(np.abs(share_before[3:] - (1.0 - test_fraction))))
    target = 1.0 - test_fraction - eval_fraction
    evaluation = 2 + int(np.argmin(np.abs(share_before[2:test] - target)))
    return days[evaluation], days[test]


def compute_day_ranges(
    days: Iterable[dt.date], eval_day: dt.date, test_day: dt.date
) -> dict[str, tuple[dt.date, dt.date]]:
    """The first and the last day of each split.

    Args:
      days: the log's days.
      eval_day: the first day of the evaluation split.
      test_day: the first day of the test split.
    """
    by_split: dict[str, list[dt.date]] = {split: [] for split in SPLITS}
    for day in days:
        by_split[SPLITS[(day >= eval_day) + (day >= test_day)]].append(day)
    return {split: (min(found), max(found)) for split, found in by_split.items()}


def split_of(timestamps_ms: np.ndarray, eval_day: dt.date, test_day: dt.date) -> np.ndarray:
    """The split of each row, as an index into `SPLITS`.

    Args:
      timestamps_ms: [N] milliseconds since the epoch, UTC.
      eval_day: the first day of the evaluation split.
      test_day: the first day of the test split.
    """
    cuts = np.array([eval_day, test_day], dtype="datetime64[ms]").astype(np.int64)
    return np.searchsorted(cuts, timestamps_ms, side="right")

"""Which days a split has, and the rows of some of them; streamed from disk."""

import dataclasses
import os
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from schemas import features as f
from trainers.batches import FeatureSpec
from trainers.preprocessing import REQUEST_KEY, TIMESTAMP_KEY, EncodedFeature, encoded_features
from trainers.scorers import data

TRAIN = "train"
EVAL = "eval"

_DAY_MS = 86_400_000
_MAX_LIST_SIZE = 64  # rows of a request that are kept side by side; more make another list


class NoRowsError(ValueError):
    """There is nothing to learn from."""


class RowSource:
    """The transformed rows of splits.

    Args:
      patterns: glob patterns of transformed TFRecord files by split, `TRAIN` and `EVAL` among them.
      transform_output: the graph that made them.
      cache_dir: where parsed rows are kept for the next who reads; None where there is none.

    Raises:
      NoRowsError: if the training split has no row.

    Attributes:
      features: what the Transform graph made.
    """

    def __init__(
        self,
        patterns: Mapping[str, Sequence[str]],
        transform_output: tft.TFTransformOutput,
        cache_dir: str | None = None,
    ):
        self._cache_dir = cache_dir
        self._opened: dict[str, tf.data.Dataset] = {}
        self._patterns = patterns
        self._spec = transform_output.transformed_feature_spec()
        self._days = _summarize_rows(patterns[TRAIN], self._spec)
        self.features = encoded_features(transform_output)

    def find_cut(self, fraction: float) -> int:
        """When the oldest days end that hold about a share of the training rows; whole days on both sides.

        Args:
          fraction: the share wanted.

        Returns:
          milliseconds since the epoch (UTC), a midnight.

        Raises:
          NoRowsError: if the training split is of one day.
        """
        days = self._days
        if len(days) < 2:
            raise NoRowsError(
                "the training split covers one day; a teacher and a student that learns from other days need "
                "two at least. Give a longer event log, or smaller eval and test splits."
            )
        rows = np.array([day.num_rows for day in days])
        share = np.cumsum(rows)[:-1] / rows.sum()
        return days[1 + int(np.argmin(np.abs(share - fraction)))].number * _DAY_MS

    def read(
        self, *choices: Sequence[EncodedFeature], since_ms: int = 0, until_ms: int = 2**62
    ) -> data.TrainingData:
        """The rows with what scorers see.

        Args:
          *choices: features of each scorer that shall see them, out of `features`.
          since_ms: training rows before that time are left out.
          until_ms: and those from that time on.

        Raises:
          NoRowsError: if no training row is of that time, or all of them are of one class.
        """
        wanted = {x.name for choice in choices for x in choice}
        features = tuple(x for x in self.features if x.name in wanted)
        days = self._select_days(since_ms, until_ms)
        if not days:
            raise NoRowsError(
                f"no training row from {since_ms} to {until_ms} ms since the epoch: the teacher's days leave "
                "its student none"
            )
        num_rows, num_clicks = sum(x.num_rows for x in days), sum(x.num_clicks for x in days)
        if num_clicks in (0, num_rows):
            raise NoRowsError(
                f"of {num_rows:,} training rows {num_clicks:,} are clicked: there is nothing to tell apart. "
                "Give a log with both, or leave negatives.per_click above 0, which draws them for a log of "
                "clicks"
            )
        return data.TrainingData(
            features=features,
            train=self.open(TRAIN, features).map(
                lambda batch: data.select_time(batch, since_ms, until_ms), num_parallel_calls=tf.data.AUTOTUNE
            ),
            evaluation=self.open(EVAL, features),
            num_requests=sum(x.num_requests for x in days),
            num_rows=num_rows,
            positive_rates=(num_clicks / num_rows, sum(x.num_conversions for x in days) / max(num_clicks, 1)),
        )

    def count_rows(self, since_ms: int = 0, until_ms: int = 2**62) -> int:
        """Training rows of the days from one midnight to another."""
        return sum(day.num_rows for day in self._select_days(since_ms, until_ms))

    def _select_days(self, since_ms: int, until_ms: int) -> list["_Day"]:
        return [day for day in self._days if since_ms <= day.number * _DAY_MS < until_ms]

    def open(self, split: str, features: Sequence[EncodedFeature]) -> tf.data.Dataset:
        """The requests of a split with some of the features, see `data.make_requests`."""
        patterns, list_size = self._patterns[split], max(x.list_size for x in self._days)
        if self._cache_dir is None:
            return data.make_requests(patterns, self._spec, features, list_size)
        if split not in self._opened:
            every = data.make_requests(patterns, self._spec, self.features, list_size)
            self._opened[split] = every.cache(os.path.join(self._cache_dir, split))
        names = [x.name for x in features]
        return self._opened[split].map(lambda batch: data.keep_features(batch, names))


@dataclasses.dataclass
class _Day:
    """What one pass over keys and labels finds of a day.

    Attributes:
      number: days since the epoch (UTC).
      num_requests: lists of rows, see `data.make_requests`.
      list_size: rows of the longest.
    """

    number: int
    num_rows: int = 0
    num_requests: int = 0
    num_clicks: int = 0
    num_conversions: int = 0
    list_size: int = 0


def _summarize_rows(patterns: Sequence[str], spec: FeatureSpec) -> list[_Day]:
    """The days of rows, oldest first; a request is of its first row's."""
    columns = {name: spec[name] for name in (REQUEST_KEY, TIMESTAMP_KEY, f.CLICKED, f.CONVERTED)}
    found: dict[int, _Day] = {}
    parsed = data.read_records(patterns).map(lambda x: tf.io.parse_example(x, columns), tf.data.AUTOTUNE)
    for row in parsed.as_numpy_iterator():
        keys, days = row[REQUEST_KEY], row[TIMESTAMP_KEY] // _DAY_MS
        starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
        lengths = np.diff(np.append(starts, len(keys)))
        for number in np.unique(days).tolist():
            day = found.setdefault(number, _Day(number))
            is_here, begins = days == number, days[starts] == number
            is_click = is_here & (row[f.CLICKED] > 0)
            day.num_rows += int(is_here.sum())
            day.num_clicks += int(is_click.sum())
            day.num_conversions += int((row[f.CONVERTED][is_click] > 0).sum())
            day.num_requests += int(np.ceil(lengths[begins] / _MAX_LIST_SIZE).sum())
            day.list_size = max(day.list_size, min(lengths[begins].max(initial=0), _MAX_LIST_SIZE))
    if not found:
        raise NoRowsError(f"no transformed row in {', '.join(patterns)}; the training split is empty")
    return sorted(found.values(), key=lambda day: day.number)

"""Transformed rows to batches of requests: a query once, its shown items beside it; streamed from disk."""

import dataclasses
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from schemas import features as f
from trainers.batches import FeatureSpec, make_shuffled_batches, to_dense
from trainers.preprocessing import REQUEST_KEY, TIMESTAMP_KEY, USER_KEY, EncodedFeature, encoded_features
from trainers.prerank.config import ScorerConfig
from trainers.prerank.feature_choice import select_features

TRAIN = "train"
EVAL = "eval"
QUERY = "query"  # features of requests, [R, ...]
ROWS = "rows"  # features and labels of shown items, [R, L, ...]
IS_ROW = "is_row"  # bool [R, L]: false where a request has fewer items than the longest
USER = "user"  # int64 [R], see `preprocessing.USER_KEY`
TIME = "time"  # int64 [R], milliseconds since the epoch (UTC)
TEACHER_LOGITS = "teacher_logits"  # [R, L, K], among a batch's rows
TEACHER_HIDDEN = "teacher_hidden"  # [R, L, H], likewise
REQUEST = "request"  # int32 [N], each row's request among the batch's

_READ_BATCH = 8192
_SHUFFLE_REQUESTS = 16_384
_DAY_MS = 86_400_000
_MAX_LIST_SIZE = 64  # rows of a request that are kept side by side; more make another list

Batch = Mapping[str, Any]


class NoRowsError(ValueError):
    """There is nothing to learn from."""


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """Requests to learn from and to choose the epoch by.

    Attributes:
      features: what they hold.
      train: see `make_requests`.
      evaluation: likewise.
      num_requests: of `train`.
      num_rows: of `train`.
      positive_rates: share of positives of the click, and of the clicked rows' conversion.
    """

    features: Sequence[EncodedFeature]
    train: tf.data.Dataset
    evaluation: tf.data.Dataset
    num_requests: int
    num_rows: int
    positive_rates: Sequence[float]


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

    def read(self, *configs: ScorerConfig, since_ms: int = 0, until_ms: int = 2**62) -> TrainingData:
        """The rows with what scorers of these configurations see.

        Args:
          *configs: of all that shall see them.
          since_ms: training rows before that time are left out.
          until_ms: and those from that time on.

        Raises:
          NoRowsError: if no training row is of that time.
          ValueError: see `select_features`.
        """
        wanted = {x.name for config in configs for x in select_features(self.features, config)}
        features = tuple(x for x in self.features if x.name in wanted)
        days = self._select_days(since_ms, until_ms)
        if not days:
            raise NoRowsError(
                f"no training row from {since_ms} to {until_ms} ms since the epoch: the teacher's days leave "
                "its student none"
            )
        num_rows, num_clicks = sum(x.num_rows for x in days), sum(x.num_clicks for x in days)
        return TrainingData(
            features=features,
            train=self.open(TRAIN, features).map(
                lambda batch: select_time(batch, since_ms, until_ms), num_parallel_calls=tf.data.AUTOTUNE
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
        """The requests of a split with some of the features, see `make_requests`."""
        patterns, list_size = self._patterns[split], max(x.list_size for x in self._days)
        if self._cache_dir is None:
            return make_requests(patterns, self._spec, features, list_size)
        if split not in self._opened:
            every = make_requests(patterns, self._spec, self.features, list_size)
            self._opened[split] = every.cache(os.path.join(self._cache_dir, split))
        names = [x.name for x in features]
        return self._opened[split].map(lambda batch: keep_features(batch, names))


@dataclasses.dataclass
class _Day:
    """What one pass over keys and labels finds of a day.

    Attributes:
      number: days since the epoch (UTC).
      num_requests: lists of rows, see `make_requests`.
      list_size: rows of the longest.
    """

    number: int
    num_rows: int = 0
    num_requests: int = 0
    num_clicks: int = 0
    num_conversions: int = 0
    list_size: int = 0


def _open(patterns: Iterable[str]) -> tf.data.Dataset:
    files = tf.data.Dataset.list_files(list(patterns), shuffle=False)
    records = tf.data.TFRecordDataset(files, compression_type="GZIP", num_parallel_reads=tf.data.AUTOTUNE)
    return records.batch(_READ_BATCH)


def _summarize_rows(patterns: Sequence[str], spec: FeatureSpec) -> list[_Day]:
    """The days of rows, oldest first; a request is of its first row's."""
    columns = {name: spec[name] for name in (REQUEST_KEY, TIMESTAMP_KEY, f.CLICKED, f.CONVERTED)}
    found: dict[int, _Day] = {}
    parsed = _open(patterns).map(lambda x: tf.io.parse_example(x, columns), tf.data.AUTOTUNE)
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


def make_requests(
    patterns: Iterable[str], spec: FeatureSpec, features: Sequence[EncodedFeature], list_size: int
) -> tf.data.Dataset:
    """All requests, in batches: `QUERY`, `ROWS`, `IS_ROW`, `USER` and `TIME`.

    Neighbouring rows of one request become one list. A request whose rows are not neighbours, or more than
    `list_size`, becomes several.

    Args:
      patterns: glob patterns of transformed TFRecord files.
      spec: how to parse them.
      features: what is read of a row, besides labels and keys.
      list_size: L, the longest list.
    """
    query = [x for x in features if x.role is f.Role.QUERY]
    others = [x for x in features if x.role is not f.Role.QUERY]
    keys = (USER_KEY, REQUEST_KEY, TIMESTAMP_KEY)
    columns = {name: spec[name] for name in (*(x.name for x in features), f.CLICKED, f.CONVERTED, *keys)}

    @tf.autograph.experimental.do_not_convert
    def parse(records: tf.Tensor) -> Batch:
        row = tf.io.parse_example(records, columns)
        request, place, is_first = _group(row[REQUEST_KEY], list_size)
        num_requests = tf.math.count_nonzero(is_first, dtype=tf.int32)
        index = tf.stack([request, place], axis=1)

        def fold(values: tf.Tensor) -> tf.Tensor:
            shape = tf.concat([[num_requests, list_size], tf.shape(values)[1:]], axis=0)
            folded = tf.scatter_nd(index, values, shape)
            folded.set_shape([None, list_size, *values.shape[1:]])
            return folded

        rows = {x.name: fold(to_dense(row[x.name], x)) for x in others}
        labels = {name: fold(tf.cast(row[name], tf.float32)) for name in (f.CLICKED, f.CONVERTED)}
        return {
            QUERY: {x.name: to_dense(tf.ragged.boolean_mask(row[x.name], is_first), x) for x in query},
            ROWS: {**rows, **labels},
            IS_ROW: fold(tf.ones_like(request)) > 0,
            USER: tf.boolean_mask(row[USER_KEY], is_first),
            TIME: tf.boolean_mask(row[TIMESTAMP_KEY], is_first),
        }

    return _open(patterns).map(parse, num_parallel_calls=tf.data.AUTOTUNE)


def _group(keys: tf.Tensor, list_size: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Each row's list and place in it, int32 [N], and whether it is a list's first, bool [N]."""
    number = tf.range(tf.shape(keys)[0])
    begins = tf.concat([tf.ones_like(keys[:1], tf.bool), keys[1:] != keys[:-1]], axis=0)
    starts = tf.boolean_mask(number, begins)
    place = number - tf.gather(starts, tf.cumsum(tf.cast(begins, tf.int32)) - 1)
    is_first = place % list_size == 0
    return tf.cumsum(tf.cast(is_first, tf.int32)) - 1, place % list_size, is_first


def make_training_batches(
    requests: tf.data.Dataset, num_requests: int, cache_file: str, seed: int
) -> tf.data.Dataset:
    """Shuffled batches of requests, see `make_shuffled_batches`."""
    return make_shuffled_batches(
        requests, num_requests, cache_file, seed, block_size=1024, buffer_size=_SHUFFLE_REQUESTS
    )


def select_time(batch: Batch, since_ms: int, until_ms: int) -> Batch:
    """The requests of a batch from one time on and before another, in milliseconds since the epoch."""
    wanted = (batch[TIME] >= since_ms) & (batch[TIME] < until_ms)
    return tf.nest.map_structure(lambda values: tf.boolean_mask(values, wanted), batch)


def keep_features(batch: Batch, names: Collection[str]) -> Batch:
    """The batch without the features that are not named; labels and a teacher's scores stay."""
    kept = {*names, f.CLICKED, f.CONVERTED, TEACHER_LOGITS, TEACHER_HIDDEN}
    parts = {part: {k: v for k, v in batch[part].items() if k in kept} for part in (QUERY, ROWS)}
    return {**batch, **parts}


def flatten(batch: Batch) -> dict[str, tf.Tensor]:
    """A batch as a model takes it in: features of R requests, features and labels of N rows, `REQUEST`.

    Args:
      batch: see `make_requests`.
    """
    is_row = batch[IS_ROW]
    rows = {name: tf.boolean_mask(values, is_row) for name, values in batch[ROWS].items()}
    return {**batch[QUERY], **rows, REQUEST: tf.cast(tf.where(is_row)[:, 0], tf.int32)}

"""Transformed rows to batches of requests: a query once, its shown items beside it; see `rows` for which."""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from schemas import features as f
from trainers.batches import FeatureSpec, make_shuffled_batches, to_dense
from trainers.preprocessing import REQUEST_KEY, TIMESTAMP_KEY, USER_KEY, EncodedFeature

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

Batch = Mapping[str, Any]


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


def read_records(patterns: Iterable[str]) -> tf.data.Dataset:
    """Serialized rows [n] in the order of the files, in batches."""
    files = tf.data.Dataset.list_files(list(patterns), shuffle=False)
    records = tf.data.TFRecordDataset(files, compression_type="GZIP", num_parallel_reads=tf.data.AUTOTUNE)
    return records.batch(_READ_BATCH)


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

    return read_records(patterns).map(parse, num_parallel_calls=tf.data.AUTOTUNE)


def _group(keys: tf.Tensor, list_size: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Each row's list and place in it, int32 [N], and whether it is a list's first, bool [N]."""
    number = tf.range(tf.shape(keys)[0])
    begins = tf.concat([tf.ones_like(keys[:1], tf.bool), keys[1:] != keys[:-1]], axis=0)
    starts = tf.boolean_mask(number, begins)
    place = number - tf.gather(starts, tf.cumsum(tf.cast(begins, tf.int32)) - 1)
    is_first = place % list_size == 0
    return tf.cumsum(tf.cast(is_first, tf.int32)) - 1, place % list_size, is_first


def make_training_batches(
    requests: tf.data.Dataset,
    num_requests: int,
    cache_file: str,
    seed: int,
    length: Callable[[Batch], tf.Tensor] | None = None,
) -> tf.data.Dataset:
    """Shuffled batches of requests, see `make_shuffled_batches`."""
    return make_shuffled_batches(
        requests,
        num_requests,
        cache_file,
        seed,
        block_size=1024,
        buffer_size=_SHUFFLE_REQUESTS,
        length=length,
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

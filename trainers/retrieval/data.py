"""Transformed examples to training batches; streamed from disk."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf
from scipy import sparse

from schemas import features as f
from trainers.batches import FeatureSpec, make_shuffled_batches, to_dense
from trainers.preprocessing import USER_KEY, EncodedFeature
from trainers.retrieval.model import HISTORY_ITEM_INDEX, ITEM_INDEX

_READ_BATCH = 4096
_SHUFFLE_BUFFER = 65_536
_MAX_CLICKS = 20_000_000  # whose user and item are held in memory: 320 MB


class NoPositivesError(ValueError):
    """There is nothing to learn from."""


def make_rows(
    patterns: Iterable[str], spec: FeatureSpec, features: Sequence[EncodedFeature]
) -> tf.data.Dataset:
    """All rows, in batches: every feature dense, `clicked` and the user's key.

    Args:
      patterns: glob patterns of the transformed TFRecord files.
      spec: how to parse them.
      features: what the Transform graph made.
    """
    columns = {name: spec[name] for name in [*(x.name for x in features), f.CLICKED, USER_KEY]}

    def parse(records: tf.Tensor) -> dict[str, tf.Tensor]:
        row = tf.io.parse_example(records, columns)
        dense = {x.name: to_dense(row[x.name], x) for x in features}
        return {**dense, f.CLICKED: row[f.CLICKED], USER_KEY: row[USER_KEY]}

    files = tf.data.Dataset.list_files(list(patterns), shuffle=False)
    records = tf.data.TFRecordDataset(files, compression_type="GZIP", num_parallel_reads=tf.data.AUTOTUNE)
    return records.batch(_READ_BATCH).map(parse, num_parallel_calls=tf.data.AUTOTUNE)


def select_positives(rows: tf.data.Dataset) -> tf.data.Dataset:
    """The clicked rows of each batch."""
    return rows.map(
        lambda row: {
            name: tf.boolean_mask(values, row[f.CLICKED] > 0)
            for name, values in row.items()
            if name != f.CLICKED
        },
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def leave_out_repeats(rows: tf.data.Dataset) -> tf.data.Dataset:
    """The rows whose item is not in their own history; an unknown item may be another one."""

    def select(row: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        item = row[ITEM_INDEX][:, tf.newaxis]
        is_repeat = tf.reduce_any((row[HISTORY_ITEM_INDEX] == item) & (item > 0), axis=1)
        return {name: tf.boolean_mask(values, ~is_repeat) for name, values in row.items()}

    return rows.map(select, num_parallel_calls=tf.data.AUTOTUNE)


def make_training_batches(
    positives: tf.data.Dataset, batch_size: int, cache_file: str, seed: int
) -> tf.data.Dataset:
    """Shuffled batches of positives, see `make_shuffled_batches`."""
    return make_shuffled_batches(
        positives, batch_size, cache_file, seed, block_size=_READ_BATCH, buffer_size=_SHUFFLE_BUFFER
    )


@dataclasses.dataclass(frozen=True)
class ItemStatistics:
    """What the training rows say of the items.

    Attributes:
      catalogue: encoded features, row i for item index i + 1.
      positive_share: [1 + items] share of the positives by item index.
      num_positives: clicked rows.
      clicks: [users, 1 + items] who clicked what, zeros and ones; of the first `_MAX_CLICKS`.
    """

    catalogue: dict[str, np.ndarray]
    positive_share: np.ndarray
    num_positives: int
    clicks: sparse.csr_matrix


def collect_items(rows: tf.data.Dataset, features: Sequence[EncodedFeature]) -> ItemStatistics:
    """One pass over the training rows; holds one row per item, and a bounded number of clicks.

    Raises:
      NoPositivesError: if no row is clicked.
    """
    candidate = [x for x in features if x.role is f.Role.CANDIDATE]
    size = next(x.size for x in candidate if x.name == ITEM_INDEX)
    clicks = np.zeros(size, np.int64)
    catalogue: dict[str, np.ndarray] = {}
    clicked_items, clicked_by, num_held = [], [], 0
    for row in rows.as_numpy_iterator():
        ids, first = np.unique(row[ITEM_INDEX], return_index=True)
        for x in candidate:
            values = row[x.name]
            target = catalogue.setdefault(x.name, np.zeros((size, *values.shape[1:]), values.dtype))
            target[ids] = values[first]
        is_click = row[f.CLICKED] > 0
        clicks += np.bincount(row[ITEM_INDEX][is_click], minlength=size)
        if num_held < _MAX_CLICKS:
            clicked_items.append(row[ITEM_INDEX][is_click])
            clicked_by.append(row[USER_KEY][is_click])
            num_held += len(clicked_by[-1])
    if not clicks.sum():
        raise NoPositivesError("no clicked row in the training split; retrieval learns from clicks")
    return ItemStatistics(
        catalogue={name: values[1:] for name, values in catalogue.items()},
        positive_share=clicks / clicks.sum(),
        num_positives=int(clicks.sum()),
        clicks=_make_matrix(np.concatenate(clicked_by), np.concatenate(clicked_items), size),
    )


def _make_matrix(users: np.ndarray, items: np.ndarray, num_items: int) -> sparse.csr_matrix:
    """Zeros and ones [users, items]; a pair that occurs twice is one."""
    keys, rows = np.unique(users, return_inverse=True)
    matrix = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, items)), (len(keys), num_items))
    matrix.data[:] = 1.0
    return matrix

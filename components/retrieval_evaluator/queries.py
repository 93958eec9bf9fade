"""The test queries and what the log says about them; streamed from raw examples."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import tensorflow as tf

from components.index_builder.build import read_records
from components.retrieval_evaluator.row_lists import RowLists, spread
from schemas import features as f

_COLUMNS = {
    f.USER_ID: tf.io.FixedLenFeature([], tf.string),
    f.ITEM_ID: tf.io.FixedLenFeature([], tf.string),
    f.TIMESTAMP: tf.io.FixedLenFeature([], tf.int64),
    f.CLICKED: tf.io.FixedLenFeature([], tf.int64),
}
_READ_BATCH = 8192


class Catalogue:
    """The items that are ranked, each once; a row is a place in the order of the ids.

    Args:
      item_ids: their ids, in any order, as often as they come.

    Attributes:
      ids: [N] sorted.
    """

    def __init__(self, item_ids: np.ndarray):
        self.ids: np.ndarray = np.unique(item_ids)
        self._index = pd.Index(self.ids)

    def __len__(self) -> int:
        """The number of items N."""
        return len(self.ids)

    def find(self, item_ids: np.ndarray) -> np.ndarray:
        """The rows of items, -1 for those that are not there."""
        return self._index.get_indexer(item_ids)


@dataclasses.dataclass(frozen=True)
class Clicks:
    """Clicked rows: users and items [C] as bytes, timestamps [C] in milliseconds."""

    users: np.ndarray
    items: np.ndarray
    timestamps: np.ndarray


def read_catalogue(patterns: Sequence[str]) -> Catalogue:
    """The items of raw item examples."""
    spec = {f.ITEM_ID: tf.io.FixedLenFeature([], tf.string)}
    parts = [tf.io.parse_example(x, spec)[f.ITEM_ID].numpy() for x in read_records(patterns, _READ_BATCH)]
    return Catalogue(np.concatenate(parts))


def read_clicks(patterns: Sequence[str], users: np.ndarray | None = None) -> Clicks:
    """The clicked rows of some users, or of all."""
    wanted = None if users is None else pd.Index(users)  # hashed: np.isin compares objects one by one
    users_read, items, timestamps = [], [], []
    for row in _iterate(patterns):
        keep = slice(None) if wanted is None else wanted.get_indexer(row[f.USER_ID]) >= 0
        users_read.append(row[f.USER_ID][keep])
        items.append(row[f.ITEM_ID][keep])
        timestamps.append(row[f.TIMESTAMP][keep])
    if not users_read:
        return Clicks(np.array([], object), np.array([], object), np.array([], np.int64))
    return Clicks(np.concatenate(users_read), np.concatenate(items), np.concatenate(timestamps))


def count_clicks(patterns: Sequence[str], catalogue: Catalogue) -> np.ndarray:
    """Clicks of each item [N] of the catalogue; other items are not counted."""
    counts = np.zeros(len(catalogue), np.int64)
    for row in _iterate(patterns):
        rows = catalogue.find(row[f.ITEM_ID])
        counts += np.bincount(rows[rows >= 0], minlength=len(catalogue))
    return counts


def read_users(patterns: Sequence[str]) -> np.ndarray:
    """All users with a row, clicked or not, sorted."""
    found = [np.unique(row[f.USER_ID]) for row in _iterate(patterns, clicked_only=False)]
    return np.unique(np.concatenate(found)) if found else np.array([], object)


def iterate_queries(
    patterns: Sequence[str], batch_size: int
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """The clicked rows as batches of serialized examples [B] and their columns."""
    records = read_records(patterns, _READ_BATCH)
    clicked = records.map(
        lambda x: tf.boolean_mask(x, tf.io.parse_example(x, _COLUMNS)[f.CLICKED] > 0),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    for examples in clicked.unbatch().batch(batch_size):
        row = tf.io.parse_example(examples, _COLUMNS)
        yield examples.numpy(), {name: values.numpy() for name, values in row.items()}


def _iterate(patterns: Sequence[str], clicked_only: bool = True) -> Iterator[dict[str, np.ndarray]]:
    rows = read_records(patterns, _READ_BATCH).map(
        lambda x: tf.io.parse_example(x, _COLUMNS), num_parallel_calls=tf.data.AUTOTUNE
    )
    for row in rows.as_numpy_iterator():
        keep = row[f.CLICKED] > 0 if clicked_only else slice(None)
        yield {name: values[keep] for name, values in row.items()}


class SeenItems:
    """What each user clicked before a given moment, as rows of the catalogue.

    Args:
      clicks: the users' clicks, of all splits.
      catalogue: the items; clicks on others are dropped.
    """

    def __init__(self, clicks: Clicks, catalogue: Catalogue):
        rows = catalogue.find(clicks.items)
        known = rows >= 0
        self._users = pd.Index(np.unique(clicks.users[known]))
        self._times = np.unique(clicks.timestamps[known])
        keys = self._sort_keys(clicks.users[known], clicks.timestamps[known])
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        self._rows = rows[known][order]

    def before(self, users: np.ndarray, timestamps: np.ndarray) -> RowLists:
        """For each query [Q] the rows clicked strictly before it, oldest first."""
        keys = self._sort_keys(users, timestamps)
        end = np.searchsorted(self._keys, keys, side="left")
        # A time's place is below the width, so that keys of one user lie between two multiples of it.
        begin = np.searchsorted(self._keys, keys - keys % self._width, side="left")
        lengths = end - begin
        return RowLists(self._rows[spread(begin, lengths)], lengths)

    @property
    def _width(self) -> int:
        return len(self._times) + 1

    def _sort_keys(self, users: np.ndarray, timestamps: np.ndarray) -> np.ndarray:
        """One number for a user and a time: by user first; the unknown user's is before every click's."""
        return self._users.get_indexer(users) * self._width + np.searchsorted(
            self._times, timestamps, side="left"
        )


def pad(lists: RowLists, catalogue: Catalogue) -> np.ndarray:
    """Lists of catalogue rows as a matrix of item ids [Q, longest], filled with ""."""
    padded = np.full((len(lists), max(int(lists.lengths.max(initial=0)), 1)), b"", object)
    padded[np.arange(padded.shape[1]) < lists.lengths[:, np.newaxis]] = catalogue.ids[lists.rows]
    return padded

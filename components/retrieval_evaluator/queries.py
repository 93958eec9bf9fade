"""The test queries and what the log says about them; streamed from raw examples."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import tensorflow as tf

from components.index_builder.build import read_records
from schemas import features as f

_COLUMNS = {
    f.USER_ID: tf.io.FixedLenFeature([], tf.string),
    f.ITEM_ID: tf.io.FixedLenFeature([], tf.string),
    f.TIMESTAMP: tf.io.FixedLenFeature([], tf.int64),
    f.CLICKED: tf.io.FixedLenFeature([], tf.int64),
}
_READ_BATCH = 8192


@dataclasses.dataclass(frozen=True)
class Clicks:
    """Clicked rows: users and items [C] as bytes, timestamps [C] in milliseconds."""

    users: np.ndarray
    items: np.ndarray
    timestamps: np.ndarray


def read_clicks(patterns: Sequence[str], users: np.ndarray | None = None) -> Clicks:
    """The clicked rows of some users, or of all."""
    parts = [
        (row[f.USER_ID], row[f.ITEM_ID], row[f.TIMESTAMP])
        for row in _iterate(patterns)
        if len(row[f.USER_ID])
    ]
    if users is not None:
        keep = [np.isin(part[0], users) for part in parts]
        parts = [tuple(values[k] for values in part) for part, k in zip(parts, keep, strict=True)]
    if not parts:
        return Clicks(np.array([], object), np.array([], object), np.array([], np.int64))
    return Clicks(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def count_clicks(patterns: Sequence[str], item_ids: np.ndarray) -> np.ndarray:
    """Clicks of each item [N] of the sorted catalogue; other items are not counted."""
    counts = np.zeros(len(item_ids), np.int64)
    for row in _iterate(patterns):
        positions = np.searchsorted(item_ids, row[f.ITEM_ID])
        positions = np.minimum(positions, len(item_ids) - 1)
        known = item_ids[positions] == row[f.ITEM_ID]
        counts += np.bincount(positions[known], minlength=len(item_ids))
    return counts


def read_users(patterns: Sequence[str]) -> np.ndarray:
    """All users with a row, clicked or not, sorted."""
    found = [np.unique(row[f.USER_ID]) for row in _iterate(patterns, clicked_only=False)]
    return np.unique(np.concatenate(found)) if found else np.array([], object)


def iterate_queries(patterns: Sequence[str], batch_size: int) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
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
      item_ids: [N] the sorted catalogue.
    """

    def __init__(self, clicks: Clicks, item_ids: np.ndarray):
        rows = np.searchsorted(item_ids, clicks.items)
        known = item_ids[np.minimum(rows, len(item_ids) - 1)] == clicks.items
        frame = pd.DataFrame(
            {"user": clicks.users[known], "row": rows[known], "at": clicks.timestamps[known]}
        ).sort_values("at", kind="stable")
        self._by_user = {
            user: (group["at"].to_numpy(), group["row"].to_numpy()) for user, group in frame.groupby("user")
        }

    def before(self, users: np.ndarray, timestamps: np.ndarray) -> list[np.ndarray]:
        """For each query [Q] the rows clicked strictly before it, oldest first."""
        nothing = (np.array([], np.int64), np.array([], np.int64))
        seen = []
        for user, timestamp in zip(users, timestamps, strict=True):
            at, rows = self._by_user.get(user, nothing)
            seen.append(rows[: np.searchsorted(at, timestamp, side="left")])
        return seen


def pad(rows: list[np.ndarray], item_ids: np.ndarray) -> np.ndarray:
    """Lists of catalogue rows as a matrix of item ids [Q, longest], filled with ""."""
    lengths = np.array([len(r) for r in rows])
    padded = np.full((len(rows), max(int(lengths.max(initial=0)), 1)), b"", object)
    flat = np.concatenate(rows) if len(rows) else np.array([], np.int64)
    padded[np.arange(padded.shape[1]) < lengths[:, np.newaxis]] = item_ids[flat.astype(np.int64)]
    return padded

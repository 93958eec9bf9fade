"""Item to item: the same towers and loss, with the item clicked before as the query (the anchor).

A pair is a clicked row and the newest event of its history, if both are of one session: the event became
known less than `session_gap_seconds` before the row. How long before is known as a power of two, see
`trainers.preprocessing`.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import tensorflow as tf

from schemas import features as f
from trainers.preprocessing import EncodedFeature
from trainers.retrieval.model import HISTORY_ITEM_INDEX, ITEM_INDEX, USER_INDEX

ANCHOR_ITEM_INDEX = f"{f.ANCHOR_PREFIX}{f.ITEM_ID}_index"
HISTORY_AGE = f"{f.HISTORY_TIMESTAMP}_age"


def anchor_features(features: Sequence[EncodedFeature]) -> tuple[EncodedFeature, ...]:
    """What an item-to-item model sees: an anchor's features and the candidate's.

    Args:
      features: what the Transform graph made.
    """
    candidate = [x for x in features if x.role is f.Role.CANDIDATE]
    anchor = [
        dataclasses.replace(x, name=_anchor_name(x.name), is_list=False) for x in _anchor_sources(features)
    ]
    return (*anchor, *candidate)


def row_features(features: Sequence[EncodedFeature]) -> tuple[EncodedFeature, ...]:
    """What `mark_pairs` reads of a transformed row."""
    read = {HISTORY_AGE, USER_INDEX, *(x.name for x in _anchor_sources(features))}
    return tuple(x for x in features if x.name in read or x.role is f.Role.CANDIDATE)


def mark_pairs(
    rows: tf.data.Dataset, features: Sequence[EncodedFeature], session_gap_seconds: int
) -> tf.data.Dataset:
    """The same rows with the anchor's features; no row that is no pair counts as clicked any more.

    An anchor that is clicked again makes no pair: an item is never the answer to itself.

    Args:
      rows: batches of `row_features`, the histories [B, T].
      features: what the Transform graph made.
      session_gap_seconds: a power of two.

    Returns:
      batches with the anchor's features, int64 [B] each; 0 where the history is empty or lacks the value.
    """
    sources = [x.name for x in _anchor_sources(features)]
    youngest_outside = session_gap_seconds.bit_length()  # ages count from 1: [2^(n-1), 2^n) seconds are n

    def mark(row: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        newest = tf.reduce_sum(tf.cast(row[HISTORY_ITEM_INDEX] >= 0, tf.int64), axis=1) - 1
        place = tf.maximum(newest, 0)
        values = {name: tf.gather(row[name], place, axis=1, batch_dims=1) for name in [*sources, HISTORY_AGE]}
        anchor = {_anchor_name(name): tf.maximum(values[name], 0) for name in sources}
        is_pair = (newest >= 0) & (values[HISTORY_AGE] < youngest_outside)
        item = row[ITEM_INDEX]
        # Two unknown items may be different ones.
        is_pair &= (anchor[ANCHOR_ITEM_INDEX] != item) | (item == 0)
        return {**row, **anchor, f.CLICKED: row[f.CLICKED] * tf.cast(is_pair, row[f.CLICKED].dtype)}

    return rows.map(mark, num_parallel_calls=tf.data.AUTOTUNE)


def _anchor_sources(features: Sequence[EncodedFeature]) -> list[EncodedFeature]:
    """The history's features that an item has too, so all but the age."""
    tables = {x.table for x in features if x.role is f.Role.CANDIDATE}
    return [x for x in features if x.role is f.Role.QUERY and x.is_list and x.table in tables]


def anchor_source(feature: EncodedFeature) -> str:
    """The history's feature that an anchor's feature is the newest value of."""
    return f.HISTORY_PREFIX + feature.name.removeprefix(f.ANCHOR_PREFIX)


def _anchor_name(name: str) -> str:
    return f.ANCHOR_PREFIX + name.removeprefix(f.HISTORY_PREFIX)

"""The item-to-item queries of a split: what was clicked, and before it in the same session (the anchor)."""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf

from components.retrieval_evaluator.query_set import QueryBatch
from schemas import features as f


@dataclasses.dataclass(frozen=True)
class PairBatch(QueryBatch):
    """Queries by an item; besides what the user saw, the anchor is left out of the answer.

    Attributes:
      anchors: [Q] item ids.
    """

    anchors: np.ndarray


class PairSet:
    """Those of some queries that are pairs, as `trainers.retrieval.item_to_item` tells them.

    Args:
      queries: the queries.
      session_gap_seconds: the newest event of the history became known less than this before the query.
    """

    def __init__(self, queries: Iterable[QueryBatch], session_gap_seconds: int):
        self._queries = queries
        self._gap_ms = 1000 * session_gap_seconds

    def __iter__(self) -> Iterator[PairBatch]:
        """Reads the queries anew."""
        for batch in self._queries:
            anchors, known_at, has_history = _read_newest(batch.examples)
            is_pair = has_history & (batch.timestamps - known_at < self._gap_ms) & (anchors != batch.targets)
            if is_pair.any():
                yield _select(batch, anchors, np.flatnonzero(is_pair))


def _read_newest(examples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The newest event of each history: item ids [Q], when it became known [Q], and whether there is one."""
    types = {f.HISTORY_ITEM_ID: tf.string, f.HISTORY_TIMESTAMP: tf.int64}
    history = tf.io.parse_example(examples, {name: tf.io.RaggedFeature(x) for name, x in types.items()})
    items, times = (history[name][:, -1:].to_tensor(shape=[None, 1])[:, 0].numpy() for name in types)
    return items, times, history[f.HISTORY_TIMESTAMP].row_lengths().numpy() > 0


def _select(batch: QueryBatch, anchors: np.ndarray, chosen: np.ndarray) -> PairBatch:
    anchor_rows = batch.catalogue.find(anchors[chosen])
    return PairBatch(
        catalogue=batch.catalogue,
        examples=batch.examples[chosen],
        users=batch.users[chosen],
        timestamps=batch.timestamps[chosen],
        targets=batch.targets[chosen],
        target_rows=batch.target_rows[chosen],
        clicked_before=batch.clicked_before.take(chosen),
        excluded=batch.excluded.take(chosen).append(anchor_rows),
        known_user=batch.known_user[chosen],
        new_item=batch.new_item[chosen],
        anchors=anchors[chosen],
    )

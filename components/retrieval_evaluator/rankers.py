"""Rankers: whatever finds the place of each query's right answer in the catalogue."""

import abc
from typing import Any

import numpy as np
import tensorflow as tf

from components.index_builder.package import EXCLUDE, RECOMMEND_EXAMPLES_SIGNATURE, SIMILAR_SIGNATURE
from components.retrieval_evaluator.metrics import compute_random_metrics, compute_row_metrics
from components.retrieval_evaluator.pairs import PairBatch
from components.retrieval_evaluator.queries import pad
from components.retrieval_evaluator.query_set import QueryBatch
from schemas import features as f
from trainers.retrieval.export import EXAMPLES

COVERAGE_DEPTH = 100
_TYPICAL_DEPTH = 500
_MAX_COMPARISONS = 1 << 27  # a byte each


class Ranker(abc.ABC):
    """What is evaluated."""

    @abc.abstractmethod
    def measure(self, batch: QueryBatch) -> dict[str, np.ndarray]:
        """The `METRICS` of each query [Q], once what is excluded is out of the ranking."""


class OrderRanker(Ranker):
    """A ranker that puts the items in one definite order per query."""

    @abc.abstractmethod
    def rank(self, batch: QueryBatch) -> np.ndarray:
        """Each target's place [Q] from 0 among the items not excluded; infinite where it is not found."""

    def measure(self, batch: QueryBatch) -> dict[str, np.ndarray]:
        """See `Ranker`."""
        return compute_row_metrics(self.rank(batch))


class PackageRanker(OrderRanker):
    """A retrieval package, asked through the signature that is served.

    Args:
      package: see `index_builder.package.load_package`. It answers with the catalogue it was built on.

    Attributes:
      shown: ids of all items that came up among the first `COVERAGE_DEPTH` so far.
    """

    def __init__(self, package: Any):
        self._model = package
        self.shown: set[bytes] = set()

    def rank(self, batch: QueryBatch) -> np.ndarray:
        """See `OrderRanker`; infinite beyond the depth of the package."""
        ranks = np.empty(len(batch.users))
        for part in _split_by_exclusions(batch.excluded.lengths):
            excluded = pad(batch.excluded.take(part), batch.catalogue)
            found = self._ask(batch, part, tf.constant(excluded))[f.ITEM_ID].numpy()
            self.shown.update(found[:, :COVERAGE_DEPTH].ravel())
            hits = found == batch.targets[part, np.newaxis]
            ranks[part] = np.where(hits.any(axis=1), hits.argmax(axis=1), np.inf)
        return ranks

    def compute_coverage(self, num_items: int) -> float:
        """Share of the catalogue among the items shown."""
        return len(self.shown - {b""}) / num_items

    def _ask(self, batch: QueryBatch, part: np.ndarray, excluded: tf.Tensor) -> dict[str, tf.Tensor]:
        """The signature's answer to some queries of a batch."""
        examples = tf.constant(batch.examples[part])
        return self._model.signatures[RECOMMEND_EXAMPLES_SIGNATURE](**{EXAMPLES: examples, EXCLUDE: excluded})


class SimilarRanker(PackageRanker):
    """The same package, asked with the anchors of pairs alone."""

    def _ask(self, batch: QueryBatch, part: np.ndarray, excluded: tf.Tensor) -> dict[str, tf.Tensor]:
        if not isinstance(batch, PairBatch):
            raise TypeError(f"expected pairs, which have anchors, got a {type(batch).__name__}")
        anchors = tf.constant(batch.anchors[part])
        return self._model.signatures[SIMILAR_SIGNATURE](**{f.ITEM_ID: anchors, EXCLUDE: excluded})


class PopularityRanker(OrderRanker):
    """The catalogue by training clicks; ties in the order of the ids.

    Args:
      clicks: [N] training clicks of each item.
    """

    def __init__(self, clicks: np.ndarray):
        self._rank = rank_by_popularity(clicks)

    def rank(self, batch: QueryBatch) -> np.ndarray:
        """See `OrderRanker`; infinite for a target that the catalogue lacks."""
        own = self._rank[np.maximum(batch.target_rows, 0)]
        excluded = batch.excluded.distinct(len(batch.catalogue))
        owners = excluded.owners
        is_above = self._rank[excluded.rows] < own[owners]
        above = np.bincount(owners[is_above], minlength=len(own))
        return np.where(batch.target_rows >= 0, (own - above).astype(np.float64), np.inf)


class RandomRanker(Ranker):
    """Any order as likely as any other; its metrics are expectations, in closed form."""

    def measure(self, batch: QueryBatch) -> dict[str, np.ndarray]:
        """See `Ranker`; 0 for a target that the catalogue lacks."""
        num_excluded = batch.excluded.distinct(len(batch.catalogue)).lengths
        metrics = compute_random_metrics(len(batch.catalogue) - num_excluded)
        return {name: np.where(batch.target_rows >= 0, values, 0.0) for name, values in metrics.items()}


def _split_by_exclusions(counts: np.ndarray) -> list[np.ndarray]:
    """Queries in groups, those with few exclusions first, so that no group costs the package much memory.

    The package compares every item it finds with every exclusion: queries x (depth + E) x E, where E is the
    largest number of exclusions of the group. A few heavy users would take gigabytes.
    """
    order = np.argsort(counts, kind="stable")
    costs = (np.maximum(counts, 1) * (counts + _TYPICAL_DEPTH))[order]
    groups, start = [], 0
    for stop in range(1, len(order) + 1):
        # Sorted: the last query of a group sets its width.
        if stop == len(order) or (stop - start + 1) * costs[stop] > _MAX_COMPARISONS:
            groups.append(order[start:stop])
            start = stop
    return groups


def rank_by_popularity(clicks: np.ndarray) -> np.ndarray:
    """Each item's place [N] from 0 by clicks [N], most first; ties in the order of the rows."""
    order = np.lexsort((np.arange(len(clicks)), -clicks))
    ranks = np.empty(len(clicks), np.int64)
    ranks[order] = np.arange(len(clicks))
    return ranks

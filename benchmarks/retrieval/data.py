"""What every model of the benchmark is given: the training clicks, and the queries of a split."""

import datetime as dt
import functools
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from benchmarks.prepared_examples import PreparedExamples
from components.retrieval_evaluator import queries as q
from components.retrieval_evaluator.evaluate import measure
from components.retrieval_evaluator.metrics import METRICS, per_user
from components.retrieval_evaluator.query_set import SPLITS, QueryBatch, QuerySet
from components.retrieval_evaluator.rankers import Ranker, rank_by_popularity

TEST = "test"
EVAL = "eval"


class BenchmarkData:
    """Raw examples, read once and kept; for logs whose queries fit into memory.

    Args:
      prepared: where they are.
      exclude_seen: whether what the user clicked before a query is left out of the answer.
    """

    def __init__(self, prepared: PreparedExamples, exclude_seen: bool):
        self.prepared = prepared
        self._exclude_seen = exclude_seen
        self._query_sets: dict[str, QuerySet] = {}

    def _query_set(self, split: str) -> QuerySet:
        if split not in self._query_sets:
            self._query_sets[split] = QuerySet(
                self.prepared.impressions_uri, self.prepared.item_patterns, self._exclude_seen, split
            )
        return self._query_sets[split]

    @functools.cache  # noqa: B019  (one object lives as long as the study)
    def queries(self, split: str) -> list[QueryBatch]:
        """All queries of a split."""
        return list(self._query_set(split))

    @property
    def catalogue(self) -> q.Catalogue:
        """The N items that are ranked."""
        return self._query_set(TEST).catalogue

    @property
    def item_clicks(self) -> np.ndarray:
        """Clicks of each item [N] in the training split."""
        return self._query_set(TEST).train_clicks

    @functools.cached_property
    def popularity_ranks(self) -> np.ndarray:
        """Each item's place [N] by training clicks."""
        return rank_by_popularity(self.item_clicks)

    @functools.cached_property
    def active(self) -> np.ndarray:
        """Rows [A] of the items with a training click."""
        return np.flatnonzero(self.item_clicks)

    @functools.cached_property
    def train_clicks(self) -> q.Clicks:
        """The training split's clicks."""
        return q.read_clicks([f"{self.prepared.impressions_uri}/Split-train/*"])

    @functools.cached_property
    def train_matrix(self) -> sparse.csr_matrix:
        """Who clicked what in training: [U, A], ones."""
        users, owners = np.unique(self.train_clicks.users, return_inverse=True)
        rows = self.catalogue.find(self.train_clicks.items)
        ones = np.ones((rows >= 0).sum(), np.float32)
        shape = (len(users), len(self.catalogue))
        matrix = sparse.csr_matrix((ones, (owners[rows >= 0], rows[rows >= 0])), shape)[:, self.active]
        matrix.data[:] = 1.0  # clicked twice is clicked
        return matrix

    def measure(self, ranker: Ranker, split: str) -> pd.DataFrame:
        """The metrics of each user, sorted by id: user_id, known, queries and `METRICS`."""
        metrics, about = measure({"": ranker}, self.queries(split))
        rows = {**metrics[""], "known": about["known_user"].astype(np.float64)}
        table = per_user(about["user"], rows).rename_axis("user_id").reset_index()
        table["user_id"] = table["user_id"].str.decode("utf-8")
        table["known"] = table["known"] > 0
        return table[["user_id", "known", "queries", *METRICS]]

    def describe(self) -> dict[str, Any]:
        """The protocol's numbers: users, queries, items and the days of the splits."""
        batches = self.queries(TEST)
        known = np.concatenate([batch.known_user for batch in batches])
        users = np.concatenate([batch.users for batch in batches])
        return {
            "users": len(np.unique(users)),
            "known_users": len(np.unique(users[known])),
            "new_users": len(np.unique(users[~known])),
            "queries": len(users),
            "items": len(self.catalogue),
            "active_items": len(self.active),
            "train_users": self.train_matrix.shape[0],
            "train_clicks": len(self.train_clicks.users),
            "days": {split: self._days(split) for split in SPLITS},
        }

    def _days(self, split: str) -> list[str]:
        """The first and the last day (UTC) on which there is a click."""
        if split == "train":
            times = self.train_clicks.timestamps
        else:
            times = np.concatenate([batch.timestamps for batch in self.queries(split)])
        ends = (times.min() / 1000, times.max() / 1000)
        return [dt.datetime.fromtimestamp(end, dt.timezone.utc).date().isoformat() for end in ends]

"""Rankers that score every item of the catalogue for every query."""

import abc
from collections.abc import Callable

import numpy as np
from scipy import sparse

from components.retrieval_evaluator.query_set import QueryBatch
from components.retrieval_evaluator.rankers import OrderRanker


class ScoreRanker(OrderRanker):
    """Ranks by a dense score.

    Args:
      tie_ranks: [N] distinct; of two items with equal scores the one with the smaller value is ahead. A
        history that says nothing leaves every score equal, so the tie's order is what a new user sees:
        popularity makes the most of it.
    """

    def __init__(self, tie_ranks: np.ndarray):
        self._tie_ranks = tie_ranks

    @abc.abstractmethod
    def score(self, batch: QueryBatch) -> np.ndarray:
        """Scores [Q, N]; the best is the largest."""

    def rank(self, batch: QueryBatch) -> np.ndarray:
        """See `OrderRanker`; infinite for a target that the catalogue lacks."""
        scores = self.score(batch)
        rows = np.maximum(batch.target_rows, 0)
        own = np.take_along_axis(scores, rows[:, np.newaxis], axis=1)
        above = (scores > own) | ((scores == own) & (self._tie_ranks < self._tie_ranks[rows, np.newaxis]))
        owners = np.repeat(np.arange(len(rows)), [len(e) for e in batch.excluded])
        above[owners, np.concatenate(batch.excluded).astype(np.int64)] = False
        return np.where(batch.target_rows >= 0, above.sum(axis=1), np.inf)


class ItemModelRanker(ScoreRanker):
    """An item-to-item model over the active items; every other item scores 0.

    Args:
      weights: W [A, A], see `item_models`.
      active: [A] rows of the catalogue that W is about.
      whole_history: whether the model is given all earlier clicks, not the newest 50.
      tie_ranks: see `ScoreRanker`.
    """

    def __init__(
        self,
        weights: np.ndarray | sparse.csr_matrix,
        active: np.ndarray,
        tie_ranks: np.ndarray,
        *,
        whole_history: bool = False,
    ):
        super().__init__(tie_ranks)
        self._weights = weights
        self._active = active
        self._whole_history = whole_history

    def score(self, batch: QueryBatch) -> np.ndarray:
        """See `ScoreRanker`."""
        history = batch.whole_history if self._whole_history else batch.history
        known = history[:, self._active] @ self._weights
        scores = np.zeros(history.shape, np.float32)
        scores[:, self._active] = known.toarray() if sparse.issparse(known) else known
        return scores


class FunctionRanker(ScoreRanker):
    """A function of the batch as the score.

    Args:
      function: from Q queries to scores [Q, N].
      tie_ranks: see `ScoreRanker`.
    """

    def __init__(self, function: Callable[[QueryBatch], np.ndarray], tie_ranks: np.ndarray):
        super().__init__(tie_ranks)
        self._function = function

    def score(self, batch: QueryBatch) -> np.ndarray:
        """See `ScoreRanker`."""
        return self._function(batch)

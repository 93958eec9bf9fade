"""What needs no training: popularity, and EASE in closed form."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from benchmarks.movielens.data import HeldOutData, mean_metrics
from benchmarks.movielens.protocols import Split
from benchmarks.retrieval.item_models import Ease


@dataclasses.dataclass(frozen=True)
class Popularity:
    """The items' numbers of training ratings [N], for everybody."""

    counts: np.ndarray

    def score(self, users: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        """See `data.Scorer`."""
        return np.tile(self.counts, (len(users), 1))


@dataclasses.dataclass(frozen=True)
class ItemModelScorer:
    """The weights of all that a user rated, summed.

    Attributes:
      seen: who rated what, [U, N].
      weights: W [N, N], see `benchmarks.retrieval.item_models`.
    """

    seen: sparse.csr_matrix
    weights: np.ndarray

    def score(self, users: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        """See `data.Scorer`."""
        return self.seen[users] @ self.weights


def build_popularity(data: HeldOutData) -> Popularity:
    """Counts the test split's training ratings."""
    return Popularity(np.bincount(data.test.train.items, minlength=len(data.movielens.items)))


def build_ease(data: HeldOutData, l2s: Sequence[float]) -> tuple[ItemModelScorer, dict[str, Any]]:
    """Chooses l2 on the validation part, then fits all training ratings.

    Args:
      data: the data set under its protocol.
      l2s: to try; of equal ones the first wins.

    Returns:
      the model for the test part; l2, and what it reached on the validation part.
    """
    reached = {l2: mean_metrics(data.measure(_fit(data, data.validation, l2), "validation")) for l2 in l2s}
    best = max(l2s, key=lambda l2: reached[l2][data.protocol.choose_by])
    return _fit(data, data.test, best), {"l2": best, **reached[best]}


def _fit(data: HeldOutData, split: Split, l2: float) -> ItemModelScorer:
    seen = data.make_matrix(split.train)
    return ItemModelScorer(seen, Ease(l2).fit(seen))

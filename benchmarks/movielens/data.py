"""What every model is given, and how it is measured."""

from typing import Any, Protocol

import numpy as np
import pandas as pd
from scipy import sparse

from benchmarks.movielens import protocols
from benchmarks.movielens.ratings import MovieLens, Ratings

_BLOCK = 1024  # queries scored at a time


class Scorer(Protocol):
    """A fitted model."""

    def score(self, users: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        """Scores [Q, N] of every item, for users [Q] who are asked at a time [Q]."""


class HeldOutData:
    """A data set under a protocol.

    Args:
      movielens: the data set.
      protocol: what is held out and how it is counted.

    Attributes:
      test: what is reported.
      validation: the same, within the test split's training part: for choices.
    """

    def __init__(self, movielens: MovieLens, protocol: protocols.Protocol):
        self.movielens = movielens
        self.protocol = protocol
        self.test = protocol.hold_out(movielens.ratings)
        self.validation = protocol.hold_out(self.test.train)

    def make_matrix(self, ratings: Ratings) -> sparse.csr_matrix:
        """Who rated what: ones [U, N]."""
        shape = (len(self.movielens.users), len(self.movielens.items))
        matrix = sparse.csr_matrix((np.ones(len(ratings), np.float32), (ratings.users, ratings.items)), shape)
        matrix.data[:] = 1.0  # one title rated twice, as two films
        return matrix

    def measure(self, scorer: Scorer, part: str) -> pd.DataFrame:
        """The means of each user's queries: user_id, queries and the protocol's metrics, sorted by user.

        Args:
          scorer: fitted on the part's training ratings.
          part: "test" or "validation".
        """
        split = getattr(self, part)
        seen = self.make_matrix(split.train)
        blocks = []
        for start in range(0, len(split.asked), _BLOCK):
            asked = split.asked.take(np.arange(start, min(start + _BLOCK, len(split.asked))))
            scores = scorer.score(asked.users, asked.seconds)
            ranks = {
                "removed": protocols.compute_ranks(scores, asked.items, seen[asked.users]),
                "kept": protocols.compute_ranks(scores, asked.items, None),
            }
            blocks.append(pd.DataFrame(self.protocol.count(ranks)))
        rows = pd.concat(blocks, ignore_index=True)
        table = (
            rows.assign(queries=1.0)
            .groupby(split.asked.users)
            .agg({**dict.fromkeys(rows.columns, "mean"), "queries": "sum"})
        )
        table.insert(0, "user_id", self.movielens.users["user_id"].to_numpy()[table.index])
        return table.reset_index(drop=True)

    def describe(self) -> dict[str, Any]:
        """The protocol's numbers."""
        return {
            "source": self.movielens.source,
            "users": len(self.movielens.users),
            "items": len(self.movielens.items),
            "train": len(self.test.train),
            "asked": len(self.test.asked),
            "asked_users": len(np.unique(self.test.asked.users)),
            "validation_train": len(self.validation.train),
            "validation_asked": len(self.validation.asked),
        }


def mean_metrics(table: pd.DataFrame) -> dict[str, float]:
    """What `HeldOutData.measure` says of all queries together."""
    metrics = table.columns.drop(["user_id", "queries"])
    return {name: float(np.average(table[name], weights=table["queries"])) for name in metrics}

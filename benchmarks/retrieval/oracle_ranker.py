"""The truth that simulated a log, as a ranker: the ceiling. The one reader of a log's oracle."""

from pathlib import Path

import numpy as np

from benchmarks.retrieval.score_rankers import ScoreRanker
from components.retrieval_evaluator.query_set import QueryBatch
from sources.marketplace.oracle import Oracle


class OracleRanker(ScoreRanker):
    """Ranks by the simulator's own click log-odds.

    Args:
      events_dir: the simulated event log.
      tie_ranks: see `ScoreRanker`.
      with_exposure: whether it knows what the logging policy shows (`Oracle.retrieval_scores`), or only
        what the user likes (`Oracle.relevance`).

    Raises:
      FileNotFoundError: if the log has no oracle.
    """

    def __init__(self, events_dir: Path, tie_ranks: np.ndarray, *, with_exposure: bool):
        super().__init__(tie_ranks)
        oracle = Oracle(events_dir)
        self._score = oracle.retrieval_scores if with_exposure else oracle.relevance
        self._item_ids = np.char.encode(oracle.item_ids.astype(str), "utf-8").astype(object)

    def score(self, batch: QueryBatch) -> np.ndarray:
        """See `ScoreRanker`; -inf for an item that is not published yet."""
        users = [user.decode("utf-8") for user in batch.users]
        known = self._score(users, batch.timestamps.astype("datetime64[ms]"))
        scores = np.full((len(users), len(batch.catalogue)), -np.inf, np.float32)
        scores[:, batch.catalogue.find(self._item_ids)] = known
        return scores

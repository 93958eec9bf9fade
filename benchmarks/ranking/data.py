"""What every ranker of a study learns from and is measured on."""

from collections.abc import Collection, Mapping
from typing import Any, Protocol

import numpy as np

from benchmarks.prepared_examples import PreparedExamples
from benchmarks.shown_rows import ShownRows, TestRows
from sources.event_log import EventLog
from trainers.ranking.config import RankerConfig
from trainers.ranking.features import select_features
from trainers.scorers.data import TrainingData


class RankingData(Protocol):
    """Rows that rankers learn from and are measured on."""

    @property
    def test_rows(self) -> TestRows:
        """The test split's rows, in the order of `score`."""

    def read(self, config: RankerConfig) -> TrainingData:
        """The training rows with what a ranker of this configuration sees."""

    def score(self, scorer: Any, training: TrainingData) -> np.ndarray:
        """Logits of a click [N] of the test split's rows."""

    def measure(self, scores: np.ndarray) -> dict[str, float]:
        """AUC, GAUC and log loss of logits [N]."""

    def describe(self) -> Mapping[str, Any]:
        """What was measured on."""


class LogRows(ShownRows):
    """The shown rows of an event log, see `RankingData`.

    Args:
      log, prepared, cache_dir: see `ShownRows`.
      hidden: names of encoded features that no ranker sees.

    Raises:
      ValueError: if there is no such feature.
    """

    def __init__(self, log: EventLog, prepared: PreparedExamples, cache_dir: str, hidden: Collection[str]):
        super().__init__(log, prepared, cache_dir)
        unknown = set(hidden).difference(x.name for x in self.source.features)
        if unknown:
            raise ValueError(f"no encoded features {sorted(unknown)}, so they cannot be hidden")
        self._seen = [x for x in self.source.features if x.name not in hidden]

    def read(self, config: RankerConfig) -> TrainingData:
        """The training rows with what a ranker of this configuration sees."""
        return self.source.read(select_features(self._seen, config).everything)

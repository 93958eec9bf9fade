"""The requests that every scorer of the study learns from and is measured on."""

import copy
import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import tensorflow as tf

from benchmarks.prepared_examples import PreparedExamples
from benchmarks.shown_rows import ShownRows
from schemas import features as f
from sources.event_log import EventLog
from trainers.prerank.config import ScorerConfig
from trainers.prerank.feature_choice import select_features
from trainers.scorers.data import ROWS, TrainingData
from trainers.scorers.rows import TRAIN


class StudyData(ShownRows):
    """Transformed rows, parsed once, and the days of a teacher and of its student.

    Args:
      log: see `ShownRows`.
      prepared: likewise.
      cache_dir: likewise.
      days_fraction: oldest share of the training split that a two-stage teacher learns from.
    """

    def __init__(self, log: EventLog, prepared: PreparedExamples, cache_dir: str, days_fraction: float):
        super().__init__(log, prepared, cache_dir)
        self._leaking = copy.copy(self.source)  # the same rows
        self._leaking.features = tuple(
            dataclasses.replace(x, role=f.Role.PRIVILEGED) if x.role is f.Role.PRIVILEGED_POST_EVENT else x
            for x in self.source.features
        )
        self.cut_ms = self.source.find_cut(days_fraction)

    def read(self, days: str, *configs: ScorerConfig, leaks: bool = False) -> TrainingData:
        """The training rows of some days with what scorers of these configurations see.

        Args:
          days: see `models.ScorerSpec`.
          *configs: of all that shall see them.
          leaks: whether what is known after the click is taken for known before it.
        """
        source = self._leaking if leaks else self.source
        seen = (select_features(source.features, config) for config in configs)
        return source.read(*seen, **self._limits(days))

    def _limits(self, days: str) -> dict[str, int]:
        return {"early": {"until_ms": self.cut_ms}, "late": {"since_ms": self.cut_ms}, "all": {}}[days]

    def describe(self) -> Mapping[str, Any]:
        """The protocol's numbers."""
        after = [x for x in self.source.features if x.role is f.Role.PRIVILEGED_POST_EVENT]
        return {
            "post_event_seen": has_values(self.source.open(TRAIN, after), [x.name for x in after]),
            **super().describe(),
            "train_rows": {x: self.source.count_rows(**self._limits(x)) for x in ("early", "late", "all")},
        }


def has_values(requests: tf.data.Dataset, names: Collection[str]) -> bool:
    """Whether any row has any of the features of items; an absent one is encoded as 0.

    Args:
      requests: see `trainers.scorers.data.make_requests`; read to the end, so that a cache of it is complete.
      names: of the features.
    """

    def look(seen: tf.Tensor, batch: Any) -> tf.Tensor:
        found = [tf.reduce_any(batch[ROWS][name] != 0) for name in names]
        return tf.reduce_any(tf.stack([seen, *found]))

    return bool(requests.reduce(False, look))

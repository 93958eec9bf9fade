"""The requests that every scorer of the study learns from and is measured on."""

import copy
import dataclasses
import functools
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.dataset as pa_dataset
import tensorflow as tf
import tensorflow_transform as tft

from benchmarks.prepared_examples import PreparedExamples
from components.score_evaluation.metrics import compute_auc, compute_gauc
from schemas import features as f
from sources.event_log import ORACLE_DIR, EventLog
from trainers.prerank.config import ScorerConfig
from trainers.prerank.feature_choice import select_features
from trainers.scorers.data import REQUEST, ROWS, TIME, USER, TrainingData, flatten
from trainers.scorers.rows import EVAL, TRAIN, NoRowsError, RowSource

TEST = "test"


@dataclasses.dataclass(frozen=True)
class TestRows:
    """What the scores [N] of every model are compared with.

    Attributes:
      users: int [N] codes from 0.
      clicked: bool [N].
      first_ms: when the first of them was shown, milliseconds since the epoch (UTC).
    """

    users: np.ndarray
    clicked: np.ndarray
    first_ms: int


class StudyData:
    """Transformed rows, parsed once.

    Args:
      log: the event log that they were made from; for the oracle of a simulated one alone.
      prepared: where the rows are.
      cache_dir: where parsed rows are kept for as long as the study runs.
      days_fraction: oldest share of the training split that a two-stage teacher learns from.
    """

    def __init__(
        self,
        log: EventLog,
        prepared: PreparedExamples,
        cache_dir: str,
        days_fraction: float,
    ):
        self._log = log
        self.transform_output = tft.TFTransformOutput(prepared.transform_graph_uri)
        patterns = {x: [f"{prepared.transformed_uri}/Split-{x}/*"] for x in (TRAIN, EVAL, TEST)}
        self._source = RowSource(patterns, self.transform_output, cache_dir)
        self._leaking = copy.copy(self._source)  # the same rows
        self._leaking.features = tuple(
            dataclasses.replace(x, role=f.Role.PRIVILEGED) if x.role is f.Role.PRIVILEGED_POST_EVENT else x
            for x in self._source.features
        )
        self.cut_ms = self._source.find_cut(days_fraction)

    def read(self, days: str, *configs: ScorerConfig, leaks: bool = False) -> TrainingData:
        """The training rows of some days with what scorers of these configurations see.

        Args:
          days: see `models.ScorerSpec`.
          *configs: of all that shall see them.
          leaks: whether what is known after the click is taken for known before it.
        """
        source = self._leaking if leaks else self._source
        seen = (select_features(source.features, config) for config in configs)
        return source.read(*seen, **self._limits(days))

    def _limits(self, days: str) -> dict[str, int]:
        return {"early": {"until_ms": self.cut_ms}, "late": {"since_ms": self.cut_ms}, "all": {}}[days]

    @functools.cached_property
    def test_rows(self) -> TestRows:
        """The test split's rows, in the order of `score`."""
        users, clicked, first_ms = [], [], 2**62
        for batch in self._source.open(TEST, ()):
            rows = flatten(batch)
            users.append(tf.gather(batch[USER], rows[REQUEST]).numpy())
            clicked.append(rows[f.CLICKED].numpy() > 0)
            first_ms = min(first_ms, int(tf.reduce_min(batch[TIME])))
        if not users:
            raise NoRowsError("the test split holds no row; give a longer event log, or a larger test split")
        codes = np.unique(np.concatenate(users), return_inverse=True)[1]
        return TestRows(codes, np.concatenate(clicked), first_ms)

    def score(self, scorer: Any, training: TrainingData) -> np.ndarray:
        """Logits of a click [N] of the test split's rows.

        Args:
          scorer: a trained model.
          training: what it was trained on.
        """
        score = tf.function(lambda inputs: scorer(inputs).logits[:, 0], reduce_retracing=True)
        batches = self._source.open(TEST, training.features)
        return np.concatenate([score(flatten(batch)).numpy() for batch in batches])

    def measure(self, scores: np.ndarray) -> dict[str, float]:
        """AUC, GAUC and log loss of logits [N]."""
        rows = self.test_rows
        log_loss = np.logaddexp(0.0, scores) - rows.clicked * scores
        return {
            "auc": compute_auc(rows.clicked, scores),
            "gauc": compute_gauc(rows.users, rows.clicked, scores).value,
            "log_loss": float(log_loss.mean()),
        }

    def measure_oracle(self) -> float | None:
        """AUC of the true click probabilities of the test split's rows; None where the log has no oracle."""
        if not (self._log.manifest.synthetic and (self._log.path / ORACLE_DIR).is_dir()):
            return None
        first_day = np.datetime64(self.test_rows.first_ms, "ms").astype("datetime64[D]")
        clicked, probability = [], []
        for day, paths in self._log.partitions().items():
            if np.datetime64(day) < first_day:
                continue
            for path in paths:
                truth = self._log.path / ORACLE_DIR / path.parent.name / path.name
                rows, known = (pa_dataset.dataset(str(p)).to_table() for p in (path, truth))
                shown = pc.is_valid(rows.column(f.POSITION))
                clicked.append(rows.column(f.CLICKED).filter(shown).to_numpy() > 0)
                probability.append(known.column("click_probability").filter(shown).to_numpy())
        return compute_auc(np.concatenate(clicked), np.concatenate(probability))

    def describe(self) -> Mapping[str, Any]:
        """The protocol's numbers."""
        rows = self.test_rows
        gauc = compute_gauc(rows.users, rows.clicked, np.zeros(len(rows.users)))
        after = [x for x in self._source.features if x.role is f.Role.PRIVILEGED_POST_EVENT]
        return {
            "post_event_seen": has_values(self._source.open(TRAIN, after), [x.name for x in after]),
            "test_rows": len(rows.clicked),
            "test_users": int(rows.users.max()) + 1,
            "test_clicks": int(rows.clicked.sum()),
            "gauc_kept_users": gauc.kept_users,
            "gauc_kept_rows": gauc.kept_rows,
            "oracle_auc": self.measure_oracle(),
            "train_rows": {x: self._source.count_rows(**self._limits(x)) for x in ("early", "late", "all")},
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

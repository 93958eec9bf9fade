"""The shown rows of an event log, transformed: what scorers of pairs learn from and are measured on."""

import dataclasses
import functools
from collections.abc import Mapping
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
from trainers.scorers.data import REQUEST, TIME, USER, TrainingData, flatten
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


class ShownRows:
    """Transformed rows, parsed once.

    Args:
      log: the event log that they were made from; for the oracle of a simulated one alone.
      prepared: where the rows are.
      cache_dir: where parsed rows are kept for as long as a study runs.

    Attributes:
      source: the rows by split.
      transform_output: the Transform graph.
    """

    def __init__(self, log: EventLog, prepared: PreparedExamples, cache_dir: str):
        self._log = log
        self.transform_output = tft.TFTransformOutput(prepared.transform_graph_uri)
        patterns = {x: [f"{prepared.transformed_uri}/Split-{x}/*"] for x in (TRAIN, EVAL, TEST)}
        self.source = RowSource(patterns, self.transform_output, cache_dir)

    @functools.cached_property
    def test_rows(self) -> TestRows:
        """The test split's rows, in the order of `score`."""
        users, clicked, first_ms = [], [], 2**62
        for batch in self.source.open(TEST, ()):
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
        batches = self.source.open(TEST, training.features)
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
        """What was measured on."""
        rows = self.test_rows
        gauc = compute_gauc(rows.users, rows.clicked, np.zeros(len(rows.users)))
        return {
            "test_rows": len(rows.clicked),
            "test_users": int(rows.users.max()) + 1,
            "test_clicks": int(rows.clicked.sum()),
            "gauc_kept_users": gauc.kept_users,
            "gauc_kept_rows": gauc.kept_rows,
            "oracle_auc": self.measure_oracle(),
        }

"""Raw impressions to scores of several models, and to what TensorFlow Model Analysis takes in."""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tensorflow.core.protobuf import saved_model_pb2

from schemas import features as f
from trainers.raw_features import EXAMPLES

CLICKS = "history_clicks"  # the slices by the clicks in the history
_CLICK_EDGES = (1, 10, f.HISTORY_SIZE)
_CLICK_NAMES = np.array(["0", "1-9", f"10-{f.HISTORY_SIZE - 1}", f"{f.HISTORY_SIZE}+"], object)
_HASHES = 2**63 - 1


class ScoreError(ValueError):
    """A model does not give a probability for every row; the message names the model."""


@dataclasses.dataclass(frozen=True)
class Scorer:
    """A model that scores pairs of a user and an item.

    Attributes:
      path: its SavedModel.
      signature: takes serialized impressions [B]; gives a probability [B] for each task.
      tasks: the labels that it predicts.
    """

    path: str
    signature: str
    tasks: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class ScoredRows:
    """B rows.

    Attributes:
      users: [B] hashes of the users' ids; so that nobody's rows are taken for another's, of 63 bits.
      requests: [B] hashes of the requests' ids.
      labels: [B] 0 or 1, by name.
      slices: [B] by feature, strings; "" for a value that is missing.
      scores: [B] by model and task.
    """

    users: np.ndarray
    requests: np.ndarray
    labels: dict[str, np.ndarray]
    slices: dict[str, np.ndarray]
    scores: dict[str, dict[str, np.ndarray]]


def find_scorer(path: str, signature: str) -> Scorer | None:
    """The pair scorer of a SavedModel; None if there is no SavedModel, or it has no such signature."""
    if not tf.saved_model.contains_saved_model(path):
        return None
    with tf.io.gfile.GFile(os.path.join(path, "saved_model.pb"), "rb") as stream:
        (graph,) = saved_model_pb2.SavedModel.FromString(stream.read()).meta_graphs
    if signature not in graph.signature_def:
        return None
    return Scorer(path, signature, tuple(sorted(graph.signature_def[signature].outputs)))


class ScoreRows(beam.DoFn):
    """Scores batches of serialized impressions [B] by all models; see `ScoredRows`.

    Args:
      scorers: by the models' names.
      slice_features: string features, one value at most, by which there are slices.

    Raises:
      ScoreError: if a score is no probability.
    """

    def __init__(self, scorers: Mapping[str, Scorer], slice_features: Sequence[str]):
        self._scorers = scorers
        self._spec: dict[str, Any] = {
            f.USER_ID: tf.io.FixedLenFeature([], tf.string),
            f.REQUEST_ID: tf.io.FixedLenFeature([], tf.string),
            f.CLICKED: tf.io.FixedLenFeature([], tf.int64),
            f.CONVERTED: tf.io.FixedLenFeature([], tf.int64),
            **{name: tf.io.RaggedFeature(tf.string) for name in (f.HISTORY_ITEM_ID, *slice_features)},
        }
        self._slice_features = slice_features

    def setup(self) -> None:
        """Loads the models (Beam's hook)."""
        self._models = {name: tf.saved_model.load(x.path) for name, x in self._scorers.items()}

    def process(self, examples: np.ndarray) -> Iterator[ScoredRows]:
        """Scores a batch (Beam's hook)."""
        row = tf.io.parse_example(examples, self._spec)
        num_clicks = row[f.HISTORY_ITEM_ID].row_lengths().numpy()
        clicks = _CLICK_NAMES[np.searchsorted(_CLICK_EDGES, num_clicks, side="right")]
        yield ScoredRows(
            users=tf.strings.to_hash_bucket_fast(row[f.USER_ID], _HASHES).numpy(),
            requests=tf.strings.to_hash_bucket_fast(row[f.REQUEST_ID], _HASHES).numpy(),
            labels={name: row[name].numpy().astype(np.int8) for name in (f.CLICKED, f.CONVERTED)},
            slices={
                CLICKS: clicks,
                **{name: _only_values(row[name]) for name in self._slice_features},
            },
            scores={name: self._score(name, examples) for name in self._scorers},
        )

    def _score(self, name: str, examples: np.ndarray) -> dict[str, np.ndarray]:
        scorer = self._scorers[name]
        signature = self._models[name].signatures[scorer.signature]
        scores = {task: x.numpy() for task, x in signature(**{EXAMPLES: tf.constant(examples)}).items()}
        for task, values in scores.items():
            good = (values >= 0) & (values <= 1)  # NaN is neither
            if values.shape != examples.shape or not good.all():
                raise ScoreError(
                    f"the {name} model's {task}: expected a probability for each of {len(examples)} rows, "
                    f"got {np.sum(~good)} others among {values.shape}, as {values[~good][:1]}. "
                    "Its TensorBoard log shows where it diverged."
                )
        return scores


def _only_values(column: tf.RaggedTensor) -> np.ndarray:
    """The only value of each row [B], "" where there is none."""
    values, codes = np.unique(tf.strings.reduce_join(column, axis=1).numpy(), return_inverse=True)
    return np.array([value.decode("utf-8", "replace") for value in values], object)[codes]


def read_batches(path: str, batch_size: int) -> Iterator[np.ndarray]:
    """The serialized examples of a file, in batches [B]."""
    yield from tf.data.TFRecordDataset(path, "GZIP").batch(batch_size).as_numpy_iterator()


def to_extracts(rows: ScoredRows) -> Iterator[dict[str, Any]]:
    """Rows as TFMA's extracts: one of all rows that are in the same slices.

    An extract is TFMA's unit of work, of 0.1 ms for each slice and metric; as an example with several labels
    and predictions it may hold many rows.
    """
    for places in _group_equals(list(rows.slices.values())):
        values = {name: x[places[0]] for name, x in rows.slices.items()}
        labels = {name: x[places] for name, x in rows.labels.items()}
        yield {
            tfma.FEATURES_KEY: {
                f.USER_ID: rows.users[places],
                **{name: np.array([value]) for name, value in values.items() if value},
            },
            tfma.LABELS_KEY: labels,
            tfma.PREDICTIONS_KEY: {
                name: {task: x[places] for task, x in scores.items()} for name, scores in rows.scores.items()
            },
            # Only who has clicked can convert.
            tfma.EXAMPLE_WEIGHTS_KEY: {f.CONVERTED: labels[f.CLICKED].astype(np.float32)},
        }


def _group_equals(columns: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The places of the rows that are equal in all columns [B], group by group."""
    cells = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        values, codes = np.unique(column, return_inverse=True)
        cells = cells * len(values) + codes
    order = np.argsort(cells, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(cells[order])) + 1)

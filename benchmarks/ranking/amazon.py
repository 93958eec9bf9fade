"""The DIEN paper's protocol on Amazon reviews (Zhou et al. 2019, arXiv 1809.03672, section 5).

What differs from the authors' code (github.com/mouna99/dien): there is an evaluation split; a negative is
none of the user's reviews, not only another item than the last; nobody has an id of their own, since
nobody of the test split is among the training users and an id that occurs once can only be learnt by heart;
the rate falls as a cosine; and the head has a product more, see `trainers.ranking.model`.
"""

import functools
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.ranking.behaviours import (
    MIN_BEHAVIOURS,
    draw_negatives,
    read_behaviours,
    split_users,
)
from benchmarks.shown_rows import TestRows
from components.score_evaluation.metrics import compute_auc, compute_gauc
from schemas import features as f
from sources.event_log import EventLog
from trainers.layers.feature_embedding import PADDING
from trainers.preprocessing import EncodedFeature
from trainers.ranking.config import RankerConfig
from trainers.ranking.features import ITEM_TABLE, select_features
from trainers.scorers.data import IS_ROW, QUERY, ROWS, TIME, USER, Batch, TrainingData, flatten, keep_features

# The paper's sizes and rate, and the one negative for each event that the authors' code takes. Nothing is
# dropped, no weight decays. The epoch is chosen on the evaluation split.
PAPER = RankerConfig(
    attention="mlp",
    embedding_dim=18,
    units=36,
    attention_dims=(80, 40),
    head_dims=(200, 80),
    activation="dice",
    auxiliary_weight=1.0,
    num_negatives=1,
    dropout=0.0,
    id_dropout=0.0,
    query_dropout=0.0,
    event_dropout=0.0,
    batch_size=2 * 128,  # a request has two rows
    max_epochs=10,
    patience_epochs=2,
    learning_rate=1e-3,
    weight_decay=0.0,
    weight_averaging=0.0,
)
LONGEST_HISTORY = 100  # events, the newest

_SEED = 20190127  # of the split and the negatives, which all rows and seeds of a study share
_BLOCK_USERS = 1024
_CATEGORY_TABLE = f"{f.CATEGORY}_index"
_USER = f"{f.USER_ID}_index"


class AmazonRows:
    """Two rows for each user, the last review and an item drawn beside it, see `ranking.data.RankingData`.

    Args:
      log: written by `winnow import amazon`.

    Raises:
      EventLogError: see `behaviours`.
    """

    def __init__(self, log: EventLog):
        behaviours = read_behaviours(log)
        rng = np.random.default_rng(_SEED)
        self._behaviours = behaviours
        self._split = split_users(behaviours.num_users, rng)
        self._features = _list_features(behaviours.categories)
        self._reviews = tf.RaggedTensor.from_row_splits(behaviours.items, behaviours.starts)
        self._categories = tf.constant(behaviours.categories, tf.int64)
        pairs = np.stack([behaviours.targets, draw_negatives(behaviours, rng)], axis=1)
        self._pairs = tf.constant(pairs, tf.int64)  # [U, 2]
        self._times = tf.constant(behaviours.last_times)

    @functools.cached_property
    def test_rows(self) -> TestRows:
        """The test users' rows, in the order of `score`."""
        users = self._sort(self._split.test)
        return TestRows(
            users=np.repeat(np.arange(len(users)), 2),
            clicked=np.tile([True, False], len(users)),
            first_ms=int(self._behaviours.last_times[users].min()),
        )

    def read(self, config: RankerConfig) -> TrainingData:
        """The training users' rows with what a ranker of this configuration sees."""
        features = select_features(self._features, config).everything
        names = [x.name for x in features]
        train = self._split.train
        longest = min(int(self._behaviours.lengths[train].max()) - 1, LONGEST_HISTORY)
        return TrainingData(
            features=features,
            train=self._open(train, names, longest),
            evaluation=self._open(self._sort(self._split.evaluation), names),
            num_requests=len(train),
            num_rows=2 * len(train),
            positive_rates=(0.5, 0.0),
        )

    def score(self, scorer: Any, training: TrainingData) -> np.ndarray:
        """Logits [N] of the test users' rows.

        Args:
          scorer: a trained model.
          training: what it was trained on.
        """
        score = tf.function(lambda inputs: scorer(inputs).logits[:, 0], reduce_retracing=True)
        batches = self._open(self._sort(self._split.test), [x.name for x in training.features])
        return np.concatenate([score(flatten(batch)).numpy() for batch in batches])

    def measure(self, scores: np.ndarray) -> dict[str, float]:
        """AUC, GAUC and log loss of logits [N]; GAUC is how often a user's own item is before the other."""
        rows = self.test_rows
        return {
            "auc": compute_auc(rows.clicked, scores),
            "gauc": compute_gauc(rows.users, rows.clicked, scores).value,
            "log_loss": float((np.logaddexp(0.0, scores) - rows.clicked * scores).mean()),
        }

    def describe(self) -> Mapping[str, Any]:
        """What was measured on."""
        parts = {"train": self._split.train, "eval": self._split.evaluation, "test": self._split.test}
        lengths = np.minimum(self._behaviours.lengths - 1, LONGEST_HISTORY)
        return {
            **{f"{name}_users": len(users) for name, users in parts.items()},
            "test_rows": 2 * len(self._split.test),
            "left_out_users": self._behaviours.num_left_out,
            "items": len(self._behaviours.categories) - 1,
            "categories": int(self._behaviours.categories.max()),
            "reviews": len(self._behaviours.items),
            "mean_history": float(lengths.mean()),
            "oracle_auc": None,
        }

    def _sort(self, users: np.ndarray) -> np.ndarray:
        """The users, those with short histories first: a batch is as long as its longest."""
        return users[np.argsort(self._behaviours.lengths[users], kind="stable")]

    def _open(self, users: np.ndarray, names: Collection[str], length: int | None = None) -> tf.data.Dataset:
        """Requests of users, see `scorers.data.make_requests`.

        Args:
          users: numbers.
          names: of the features that are kept.
          length: of all histories; None where each batch's shall be as long as the longest of them.
        """
        return (
            tf.data.Dataset.from_tensor_slices(users)
            .batch(_BLOCK_USERS)
            .map(
                lambda block: keep_features(self._make_batch(block, length), names),
                num_parallel_calls=tf.data.AUTOTUNE,
            )
        )

    def _make_batch(self, users: tf.Tensor, length: int | None) -> Batch:
        """The requests of users [R]."""
        items = tf.cast(tf.gather(self._reviews, users)[:, :-1][:, -LONGEST_HISTORY:], tf.int64)
        columns = {
            ITEM_TABLE: items,
            _CATEGORY_TABLE: items.with_flat_values(tf.gather(self._categories, items.flat_values)),
        }
        history = {
            f.HISTORY_PREFIX + name: ids.to_tensor(PADDING, shape=[None, length])
            for name, ids in columns.items()
        }
        pair = tf.gather(self._pairs, users)
        clicked = tf.one_hot(tf.zeros_like(users), 2)
        return {
            QUERY: {_USER: tf.zeros_like(users), **history},
            ROWS: {
                ITEM_TABLE: pair,
                _CATEGORY_TABLE: tf.gather(self._categories, pair),
                f.CLICKED: clicked,
                f.CONVERTED: tf.zeros_like(clicked),
            },
            IS_ROW: tf.ones_like(pair, tf.bool),
            USER: users,
            TIME: tf.gather(self._times, users),
        }


def describe_protocol(protocol: Mapping[str, Any]) -> str:
    """What was measured on.

    Args:
      protocol: of `AmazonRows.describe`, and what the study adds.
    """
    left_out = ""
    if protocol["left_out_users"]:
        left_out = f" {protocol['left_out_users']:,} users with fewer than {MIN_BEHAVIOURS} reviews left out."
    return (
        "the DIEN paper's protocol. Each user's last review is to be told from an item drawn by popularity, "
        f"none of the user's own, given the reviews before it, the newest {LONGEST_HISTORY} at most. Split "
        "by user, at random, not by time, as in the paper: a model may have learnt from reviews later than "
        f"what it is asked. {protocol['test_users']:,} users to test, {protocol['eval_users']:,} to choose "
        f"the epoch by, {protocol['train_users']:,} to train; seeds "
        f"{', '.join(map(str, protocol['seeds']))}. {protocol['items']:,} items, "
        f"{protocol['categories']:,} categories, histories of {protocol['mean_history']:.1f} on "
        f"average.{left_out}"
    )


def _list_features(categories: np.ndarray) -> tuple[EncodedFeature, ...]:
    item = (ITEM_TABLE, len(categories))
    category = (_CATEGORY_TABLE, int(categories.max()) + 1)
    history_item, history_category = (f.HISTORY_PREFIX + table for table in (ITEM_TABLE, _CATEGORY_TABLE))
    return (
        EncodedFeature(_USER, _USER, 1, f.Role.QUERY, f.USER_ID, False),  # everybody is the unknown user
        EncodedFeature(history_item, *item, f.Role.QUERY, "history", True),
        EncodedFeature(history_category, *category, f.Role.QUERY, "history", True),
        EncodedFeature(ITEM_TABLE, *item, f.Role.CANDIDATE, f.ITEM_ID, False),
        EncodedFeature(_CATEGORY_TABLE, *category, f.Role.CANDIDATE, "attributes", False),
    )

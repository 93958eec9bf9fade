"""The two-tower student of pre-ranking, and what every scorer has."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from schemas import features as f
from trainers.layers.two_towers import CandidateTower, HistoryShape, QueryTower
from trainers.preprocessing import EncodedFeature
from trainers.prerank.config import ScorerConfig
from trainers.scorers.data import REQUEST
from trainers.scorers.scores import Inputs, Scores, log_odds, make_tables

_INITIAL_SCALE = 5.0


class TwoTowerStudent(tf.keras.Model):
    """Two towers under one inner product for each task: z_k = scale_k <q_k, v_k> + b_k, of unit vectors.

    The last layer of a tower is linear, so that inner products can be negative. Scale and bias are learned.

    Args:
      features: of the query and of the candidate.
      config: widths and rates.
      positive_rates: [K] share of positives of each task, where the bias starts.
      tables: embeddings shared with a teacher; its own where None.
    """

    def __init__(
        self,
        features: Sequence[EncodedFeature],
        config: ScorerConfig,
        positive_rates: Sequence[float],
        tables: Any = None,
    ):
        super().__init__(name="student")
        self.config = config
        self.num_tasks = len(config.tasks)
        self.query_features = [x for x in features if x.role is f.Role.QUERY]
        self.candidate_features = [x for x in features if x.role is f.Role.CANDIDATE]
        self.tables = tables or make_tables(
            (*self.query_features, *self.candidate_features), config.embedding_dim
        )
        # One vector for all tasks, of which each task's part is scaled to unit length here.
        shape = dataclasses.replace(config, output_dim=self.num_tasks * config.output_dim)
        self._query_tower = QueryTower(
            self.query_features, self.tables, shape, history_shape(config), normalize=False
        )
        self._candidate_tower = CandidateTower(self.candidate_features, self.tables, shape, normalize=False)
        self._scale = self.add_weight(
            name="scale", shape=(self.num_tasks,), initializer=tf.constant_initializer(_INITIAL_SCALE)
        )
        self._bias = self.add_weight(
            name="bias",
            shape=(self.num_tasks,),
            initializer=tf.constant_initializer(log_odds(positive_rates)),
        )

    def user_vectors(self, inputs: Inputs, training: bool = False) -> tf.Tensor:
        """[R, K * D], unit length for each task."""
        return self._normalize(self._query_tower(inputs, training=training))

    def item_vectors(self, inputs: Inputs, training: bool = False) -> tf.Tensor:
        """[N, K * D], unit length for each task."""
        return self._normalize(self._candidate_tower(inputs, training=training))

    def _normalize(self, vectors: tf.Tensor) -> tf.Tensor:
        parts = tf.reshape(vectors, [-1, self.num_tasks, self.config.output_dim])
        return tf.reshape(tf.math.l2_normalize(parts, axis=2), tf.shape(vectors))

    def score_vectors(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """Logits [..., K] of vectors that broadcast, [..., K * D] each."""
        products = users * items
        shape = tf.concat([tf.shape(products)[:-1], [self.num_tasks, self.config.output_dim]], axis=0)
        return self._scale * tf.reduce_sum(tf.reshape(products, shape), axis=-1) + self._bias

    def call(self, inputs: Inputs, training: bool = False) -> Scores:
        """Scores rows; see `data.flatten`. The hidden layer is the vectors' product: what both sides say."""
        users = tf.gather(self.user_vectors(inputs, training=training), inputs[REQUEST])
        items = self.item_vectors(inputs, training=training)
        return Scores(self.score_vectors(users, items), users * items)


def history_shape(config: ScorerConfig) -> HistoryShape:
    """How a scorer pools the history."""
    return HistoryShape(config.num_history_heads, config.event_dropout)

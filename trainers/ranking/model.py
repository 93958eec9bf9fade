"""The ranking model: DIEN, DIN, or neither, under one MLP."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from trainers.layers.dice import Dice
from trainers.layers.feature_embedding import PADDING, FeatureEmbedding, IdDropout
from trainers.layers.interest import EvolvedInterest, PooledInterest
from trainers.preprocessing import EncodedFeature
from trainers.ranking.config import RankerConfig
from trainers.ranking.features import NEGATIVE_PREFIX, select_features
from trainers.scorers.data import REQUEST
from trainers.scorers.scores import Inputs, Scores, log_odds, make_tables

_ACTIVATIONS = {"dice": Dice, "prelu": tf.keras.layers.PReLU}


class Ranker(tf.keras.Model):
    """z = MLP([candidate, mean ∘ target, interest, query, p]) + Σ p + b, p = (W query) ∘ (V candidate).

    A history is encoded once for all rows of its request. The query is the profile and the mean of what was
    clicked. That mean, and its product with the target, stand in the authors' code, not in the paper; p and
    its sum in neither: an MLP finds products with difficulty
    (docs/decisions/2026-11-23-products-in-the-ranker.md). All forms of interest have the same.

    One table for each column is for history, candidate and the auxiliary loss' negatives. The auxiliary loss,
    where the inputs have negatives, is in `losses` after a call in training.

    Args:
      features: what the Transform graph made, see `select_features`.
      config: form, widths and rates.
      positive_rates: [1] share of clicked rows, where the bias starts.
      tables: embeddings shared with another ranker; its own where None.

    Raises:
      ValueError: see `select_features`.
    """

    def __init__(
        self,
        features: Sequence[EncodedFeature],
        config: RankerConfig,
        positive_rates: Sequence[float],
        tables: Any = None,
    ):
        super().__init__(name="ranker")
        self.config = config
        self.features = select_features(features, config)
        self.tables = tables or make_tables(self.features.everything, config.embedding_dim)
        self._profile = FeatureEmbedding(
            self.features.profile, self.tables, config.query_dropout, name="profile"
        )
        self._candidate = FeatureEmbedding(
            self.features.candidate, self.tables, config.id_dropout, name="candidate"
        )
        self._id_dropout = IdDropout(config.id_dropout)
        self._interest = _build_interest(config)
        self._project_query = tf.keras.layers.Dense(config.product_dim, name="project_query")
        self._project_candidate = tf.keras.layers.Dense(config.product_dim, name="project_candidate")
        self._dropout = tf.keras.layers.Dropout(config.dropout)
        self._hidden = [
            tf.keras.layers.Dense(dim, name=f"hidden_{i}") for i, dim in enumerate(config.head_dims)
        ]
        self._activations = [
            _ACTIVATIONS[config.activation](name=f"{config.activation}_{i}")
            for i in range(len(config.head_dims))
        ]
        self._score = tf.keras.layers.Dense(
            1, bias_initializer=tf.constant_initializer(log_odds(positive_rates)), name="score"
        )

    def call(self, inputs: Inputs, training: bool = False) -> Scores:
        """Scores rows; see `data.flatten`. A history may be of any length, its events come first."""
        request = inputs[REQUEST]
        candidate = self._candidate(inputs, training=training)
        of_request, of_row = [], [candidate]
        if self.features.profile:
            of_request.append(self._profile(inputs, training=training))
        if self.features.behaviour:
            target = self._embed([inputs[x.name] for x in self.features.target], training)
            mean, interest = self._follow_interest(inputs, target, training)
            of_request.append(mean)
            of_row += [tf.gather(mean, request) * target, interest]
        query = tf.concat(of_request, axis=1)
        product = tf.gather(self._project_query(query), request) * self._project_candidate(candidate)
        hidden = tf.concat([*of_row, tf.gather(query, request), product], axis=1)
        for layer, activation in zip(self._hidden, self._activations, strict=True):
            hidden = activation(layer(self._dropout(hidden, training=training)), training=training)
        return Scores(self._score(hidden) + tf.reduce_sum(product, axis=1, keepdims=True), hidden)

    def _follow_interest(
        self, inputs: Inputs, target: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The mean [R, I] of what was clicked, and what it says [N, H] of the rows' targets [N, I]."""
        mask = inputs[self.features.behaviour[0].name] != PADDING
        if training:
            # One user's rows share most of a history: without this, it is learnt by heart.
            mask &= tf.random.uniform(tf.shape(mask)) >= self.config.event_dropout
        items = self._embed([inputs[x.name] for x in self.features.behaviour], training)
        circumstances = [self.tables(inputs[x.name], table=x.table) for x in self.features.circumstances]
        interests = self._interest.encode(tf.concat([items, *circumstances], axis=2), mask)
        negatives = [inputs.get(NEGATIVE_PREFIX + x.name) for x in self.features.behaviour]
        if training and self.config.has_auxiliary_loss and negatives[0] is not None:
            drawn = self._embed(negatives, training)
            pairs = mask & tf.reduce_all(negatives[0] != PADDING, axis=2)
            self.add_loss(self._interest.compute_auxiliary_loss(interests, items, drawn, pairs))
        is_event = tf.cast(mask, items.dtype)[:, :, tf.newaxis]
        mean = tf.math.divide_no_nan(tf.reduce_sum(items * is_event, axis=1), tf.reduce_sum(is_event, axis=1))
        return mean, self._interest(interests, target, mask, inputs[REQUEST])

    def _embed(self, columns: Sequence[tf.Tensor], training: bool) -> tf.Tensor:
        """[..., I] of the ids [...] of each column of `behaviour`."""
        parts = [
            self.tables(self._id_dropout(ids, training=training), table=x.table)
            for ids, x in zip(columns, self.features.behaviour, strict=True)
        ]
        return tf.concat(parts, axis=-1)


def _build_interest(config: RankerConfig) -> Any:
    if config.interest == "none":
        return None
    if config.interest == "din":
        return PooledInterest(config.attention, config.attention_dims, name="interest")
    return EvolvedInterest(
        config.units,
        config.interest,
        config.attention,
        config.attention_dims,
        config.auxiliary_weight,
        name="interest",
    )

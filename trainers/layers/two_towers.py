"""The two towers: what a user asks for and what an item is, each as a vector."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from schemas import features as f
from trainers.config import TowersShape
from trainers.layers.feature_embedding import PADDING, EmbeddingTables, FeatureEmbedding, IdDropout
from trainers.layers.history_pooling import HistoryPooling
from trainers.layers.tower import TowerTop
from trainers.preprocessing import EncodedFeature


@dataclasses.dataclass(frozen=True)
class HistoryShape:
    """How a history is pooled.

    Attributes:
      num_heads: pooled vectors.
      event_dropout: share of the history's events left out in training.
    """

    num_heads: int
    event_dropout: float


class QueryEncoder(tf.keras.layers.Layer):
    """User, context and history, or an anchor item, to their embeddings side by side.

    Args:
      features: the query side's features; lists are the history, aligned with each other.
      tables: embeddings, shared with the candidate side.
      shape: widths and rates.
      history: how the history is pooled; None where the features hold none.
    """

    def __init__(
        self,
        features: Sequence[EncodedFeature],
        tables: EmbeddingTables,
        shape: TowersShape,
        history: HistoryShape | None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self._history_features = [x for x in features if x.is_list]
        self._other_features = [x for x in features if not x.is_list]
        self._tables = tables
        self._embedding = FeatureEmbedding(
            self._other_features, tables, shape.query_dropout, name="query_features"
        )
        if history is not None:
            self._event_dropout = history.event_dropout
            self._history_dropout = IdDropout(shape.id_dropout)
            self._pooling = HistoryPooling(
                history.num_heads, shape.embedding_dim, f.HISTORY_SIZE, name="history_pooling"
            )

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Maps a batch of encoded features to [B, D]."""
        parts = []
        if self._other_features:
            parts.append(self._embedding(inputs, training=training))
        if self._history_features:
            mask = inputs[self._history_features[0].name] != PADDING
            if training:
                # One user's rows share most of a history: without this, it is learnt by heart.
                mask &= tf.random.uniform(tf.shape(mask)) >= self._event_dropout
            events = []
            for feature in self._history_features:
                ids = self._history_dropout(inputs[feature.name], training=training)
                events.append(self._tables(ids, table=feature.table))
            parts.append(self._pooling(tf.concat(events, axis=2), mask))
        return tf.concat(parts, axis=1)


class QueryTower(tf.keras.Model):
    """User, context and history, or an anchor item, to a vector; see `QueryEncoder` and `TowerTop`."""

    def __init__(
        self,
        features: Sequence[EncodedFeature],
        tables: EmbeddingTables,
        shape: TowersShape,
        history: HistoryShape | None,
        normalize: bool,
    ):
        super().__init__(name="query_tower")
        self._encoder = QueryEncoder(features, tables, shape, history, name="query_encoder")
        self._top = TowerTop(shape.hidden_dims, shape.output_dim, normalize, shape.dropout, name="query_top")

    @tf.autograph.experimental.do_not_convert  # there is nothing to convert, and looking takes long
    def call(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Maps a batch of encoded features to [B, output_dim]."""
        return self._top(self._encoder(inputs, training=training), training=training)


class CandidateTower(tf.keras.Model):
    """An item's features to a vector.

    Args:
      features: the candidate side's features.
      tables: embeddings, shared with the query tower.
      shape: widths and rates.
      normalize: whether the vector is scaled to unit length.
    """

    def __init__(
        self,
        features: Sequence[EncodedFeature],
        tables: EmbeddingTables,
        shape: TowersShape,
        normalize: bool,
    ):
        super().__init__(name="candidate_tower")
        self._embedding = FeatureEmbedding(features, tables, shape.id_dropout, name="candidate_features")
        self._top = TowerTop(
            shape.hidden_dims, shape.output_dim, normalize, shape.dropout, name="candidate_top"
        )

    @tf.autograph.experimental.do_not_convert
    def call(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Maps a batch of encoded features to [B, output_dim]."""
        return self._top(self._embedding(inputs, training=training), training=training)

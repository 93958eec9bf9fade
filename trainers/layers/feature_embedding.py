"""Encoded features to dense vectors, with tables shared where features share their ids."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from trainers.preprocessing import EncodedFeature

PADDING = -1  # fills lists to the batch's longest; 0 is taken, it means unknown


def table_dim(size: int, embedding_dim: int) -> int:
    """A table of few rows needs few columns."""
    return min(embedding_dim, 8 + size // 4)


class IdDropout(tf.keras.layers.Layer):
    """Replaces a share of ids by 0 in training, so that the unknown id is a trained one.

    Args of call:
      ids: int64 of any shape, `PADDING` stays; or numbers, whose 0 stands for a missing one.
    """

    def __init__(self, rate: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.rate = rate

    def call(self, ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the ids, some of them 0."""
        if not training or self.rate == 0.0:
            return ids
        dropped = tf.random.uniform(tf.shape(ids)) < self.rate
        if ids.dtype.is_integer:
            dropped &= ids > 0
        return tf.where(dropped, tf.zeros_like(ids), ids)

    def get_config(self) -> dict[str, Any]:
        """Keras' hook."""
        return {**super().get_config(), "rate": self.rate}


class EmbeddingTables(tf.keras.layers.Layer):
    """One embedding per table name, made once and shared by both towers.

    Args:
      sizes: rows of each table.
      embedding_dim: columns of a large table; a small one gets fewer, see `table_dim`.
    """

    def __init__(self, sizes: Mapping[str, int], embedding_dim: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.sizes = dict(sizes)
        self.embedding_dim = embedding_dim
        self._tables: dict[str, tf.Variable] = {}

    def build(self, input_shape: Any) -> None:
        """Keras' hook: makes every table, so that none depends on which feature comes first."""
        self._tables = {
            name: self.add_weight(
                name=name,
                shape=(size, table_dim(size, self.embedding_dim)),
                initializer=tf.keras.initializers.RandomNormal(stddev=0.05),
            )
            for name, size in self.sizes.items()
        }
        super().build(input_shape)

    def call(self, ids: tf.Tensor, table: str) -> tf.Tensor:
        """Looks ids up; `PADDING` gives the row of 0, to be masked by the caller.

        Args:
          ids: int64 [...].
          table: the table's name.

        Returns:
          [..., dim].
        """
        return tf.gather(self._tables[table], tf.maximum(ids, 0))

    def start_from(self, table: str, rows: np.ndarray) -> None:
        """Gives a table's first columns other values to start from.

        Args:
          table: the table's name.
          rows: [size, at most dim].
        """
        variable = self._tables[table]
        variable[:, : rows.shape[1]].assign(rows)

    def get_config(self) -> dict[str, Any]:
        """Keras' hook."""
        return {**super().get_config(), "sizes": self.sizes, "embedding_dim": self.embedding_dim}


class PartlySharedTables(tf.keras.layers.Layer):
    """Tables of one's own, and another model's for the rest.

    Args:
      own: what is not shared.
      shared: of the other model.
    """

    def __init__(self, own: EmbeddingTables, shared: EmbeddingTables, **kwargs: Any):
        super().__init__(**kwargs)
        self._own = own
        self._shared = shared

    def call(self, ids: tf.Tensor, table: str) -> tf.Tensor:
        """Looks ids up; see `EmbeddingTables`."""
        tables = self._own if table in self._own.sizes else self._shared
        return tables(ids, table=table)


class FeatureEmbedding(tf.keras.layers.Layer):
    """Concatenates the embeddings of features that are not a sequence; lists are averaged.

    Args:
      features: what to embed, all of one side.
      tables: the shared tables.
      id_dropout: share of the single values trained as unknown or missing.
    """

    def __init__(
        self, features: Sequence[EncodedFeature], tables: EmbeddingTables, id_dropout: float, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self._features = tuple(features)
        self._tables = tables
        self._id_dropout = IdDropout(id_dropout)

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Embeds a batch.

        Args:
          inputs: by name: int64 [B], int64 [B, n] filled with `PADDING`, or float32 [B].
          training: whether ids are dropped.

        Returns:
          [B, sum of dims].
        """
        parts = []
        for feature in self._features:
            values = inputs[feature.name]
            if feature.size == 0:
                parts.append(self._id_dropout(values, training=training)[:, tf.newaxis])
            elif feature.is_list:
                mask = tf.cast(values != PADDING, tf.float32)[:, :, tf.newaxis]  # [B, n, 1]
                total = tf.reduce_sum(self._tables(values, table=feature.table) * mask, axis=1)
                parts.append(tf.math.divide_no_nan(total, tf.reduce_sum(mask, axis=1)))
            else:
                ids = self._id_dropout(values, training=training)
                parts.append(self._tables(ids, table=feature.table))
        return tf.concat(parts, axis=1)

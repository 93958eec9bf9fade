"""What a scorer of rows is: its inputs, its outputs, and how its parts start."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from trainers.layers.feature_embedding import EmbeddingTables
from trainers.preprocessing import EncodedFeature

Inputs = Mapping[str, tf.Tensor]


class Scores(NamedTuple):
    """What a scorer says of N rows.

    Attributes:
      logits: [N, K] of the tasks.
      hidden: [N, H] the last hidden layer.
    """

    logits: tf.Tensor
    hidden: tf.Tensor


def make_tables(features: Sequence[EncodedFeature], embedding_dim: int) -> EmbeddingTables:
    """One table for each name, see `EmbeddingTables`."""
    sizes = {x.table: x.size for x in features if x.size}
    return EmbeddingTables(sizes, embedding_dim, name="tables")


def log_odds(rates: Sequence[float]) -> list[float]:
    """Where a bias starts, of each share of positives."""
    clipped = np.clip(np.asarray(rates, np.float64), 1e-4, 1 - 1e-4)
    return np.log(clipped / (1 - clipped)).tolist()

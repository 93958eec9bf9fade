"""Histories of mixed length: trimmed batches of like ones, against batches padded to the longest."""

import numpy as np
import tensorflow as tf

from benchmarks.dien_speed.data import Sizes, make_item_categories
from benchmarks.dien_speed.models import (
    CATEGORY,
    HISTORY_CATEGORY,
    HISTORY_ITEM,
    ITEM,
    USER,
    TrainingStep,
)
from schemas import features as f
from trainers.batches import make_seeds
from trainers.layers.feature_embedding import PADDING
from trainers.ranking.data import make_training_batches
from trainers.ranking.negatives import NegativeSampler
from trainers.scorers import data
from trainers.scorers.data import IS_ROW, QUERY, ROWS, Batch

PADDED, BUCKETED = "padded", "bucketed"
NUM_BATCHES = 16  # of an epoch; as many requests as the trainer shuffles together, at the default batch
_SEED = 0
_MEDIAN_LENGTH, _LENGTH_SPREAD = 12, 1.0


def make_lengths(sizes: Sizes) -> np.ndarray:
    """Events of each request's history [NUM_BATCHES * rows]: log-normal, at least 1, the longest cut."""
    drawn = np.random.default_rng(_SEED).lognormal(
        np.log(_MEDIAN_LENGTH), _LENGTH_SPREAD, NUM_BATCHES * sizes.rows
    )
    return np.clip(drawn.round().astype(np.int64), 1, sizes.history)


def make_epochs(sizes: Sizes, step: TrainingStep) -> dict[str, list[Batch]]:
    """The same requests, of one row each: `PADDED` in any order, `BUCKETED` as the trainer has them.

    Args:
      sizes: of the data.
      step: of the model whose batches they are.
    """
    categories = make_item_categories(sizes)
    requests = tf.data.Dataset.from_tensor_slices(_make_requests(sizes, categories)).batch(sizes.rows)
    items = np.stack([np.arange(sizes.items), categories], axis=1)
    sampler = NegativeSampler(items, np.arange(sizes.items) > 0, (HISTORY_ITEM, HISTORY_CATEGORY), 0, 1)
    padded = tf.data.Dataset.zip(
        data.make_training_batches(requests, sizes.rows, "", _SEED), make_seeds(_SEED)
    ).map(sampler.add)
    bucketed = make_training_batches(requests, sizes.rows, "", _SEED, step.features, sampler)
    return {PADDED: list(padded), BUCKETED: list(bucketed)}


def _make_requests(sizes: Sizes, categories: np.ndarray) -> Batch:
    lengths = make_lengths(sizes)
    random = np.random.default_rng(_SEED + 1)
    history = random.integers(1, sizes.items, (len(lengths), sizes.history))
    is_event = np.arange(sizes.history) < lengths[:, np.newaxis]
    item = random.integers(1, sizes.items, (len(lengths), 1))
    return {
        QUERY: {
            USER: random.integers(1, sizes.users, len(lengths)),
            HISTORY_ITEM: np.where(is_event, history, PADDING),
            HISTORY_CATEGORY: np.where(is_event, categories[history], PADDING),
        },
        ROWS: {
            ITEM: item,
            CATEGORY: categories[item],
            f.CLICKED: random.integers(0, 2, item.shape).astype(np.float32),
            f.CONVERTED: np.zeros(item.shape, np.float32),
        },
        IS_ROW: np.ones(item.shape, bool),
    }

"""Requests in memory with a planted answer, for the tests of pre-ranking that need no file."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from schemas import features as f
from trainers.preprocessing import EncodedFeature
from trainers.scorers.data import IS_ROW, QUERY, ROWS, TIME, USER, TrainingData

_NUM_USERS = 40
_NUM_ITEMS = 40
_LIST_SIZE = 4
_FEATURES = (
    EncodedFeature("user_id_index", "user_id_index", _NUM_USERS + 1, f.Role.QUERY, "user_id", False),
    EncodedFeature("item_id_index", "item_id_index", _NUM_ITEMS + 1, f.Role.CANDIDATE, "item_id", False),
    EncodedFeature("category_index", "category_index", 4, f.Role.CANDIDATE, "attributes", False),
    EncodedFeature("pair_hash", "pair_hash", 50, f.Role.CROSS, "crosses", False),
    EncodedFeature("visits_zscore", "visits_zscore", 0, f.Role.PRIVILEGED, "interactions", False),
    EncodedFeature("basket_zscore", "basket_zscore", 0, f.Role.PRIVILEGED_POST_EVENT, "basket", False),
)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def _make_batch(num_requests: int, seed: int) -> dict[str, Any]:
    """Requests of random users; see `make_requests` of `trainers.scorers.data`."""
    tastes = np.random.default_rng(0)  # the same for every batch
    users, items = (tastes.normal(size=(count + 1, 2)) for count in (_NUM_USERS, _NUM_ITEMS))
    affinities = 1.5 * users @ items.T
    rng = np.random.default_rng(seed)
    user = rng.integers(1, _NUM_USERS + 1, num_requests)
    shape = (num_requests, _LIST_SIZE)
    item = rng.integers(1, _NUM_ITEMS + 1, shape)
    affinity = affinities[user[:, np.newaxis], item]
    clicked = rng.random(shape) < _sigmoid(affinity)
    basket = rng.normal(size=shape) * clicked
    converted = clicked & (rng.random(shape) < _sigmoid(3.0 * basket))
    lengths = rng.integers(1, _LIST_SIZE + 1, num_requests)
    rows = {
        "item_id_index": item,
        "category_index": item % 3 + 1,
        "pair_hash": (user[:, np.newaxis] * 41 + item) % 49 + 1,
        "visits_zscore": affinity.astype(np.float32),
        "basket_zscore": basket.astype(np.float32),
        f.CLICKED: clicked.astype(np.float32),
        f.CONVERTED: converted.astype(np.float32),
    }
    return {
        QUERY: {"user_id_index": user},
        ROWS: rows,
        IS_ROW: np.arange(_LIST_SIZE) < lengths[:, np.newaxis],
        USER: user,
        TIME: np.zeros(num_requests, np.int64),
    }


def _make_training(num_requests: int, seed: int) -> TrainingData:
    batch, other = (_make_batch(count, s) for count, s in ((num_requests, seed), (400, 1000)))
    is_row, clicked, converted = (batch[IS_ROW], batch[ROWS][f.CLICKED], batch[ROWS][f.CONVERTED])
    return TrainingData(
        features=_FEATURES,
        train=tf.data.Dataset.from_tensors(batch),
        evaluation=tf.data.Dataset.from_tensors(other),
        num_requests=num_requests,
        num_rows=int(is_row.sum()),
        positive_rates=(float(clicked[is_row].mean()), float(converted[is_row & (clicked > 0)].mean())),
    )


@pytest.fixture(scope="session")
def make_batch():
    """(num_requests, seed) -> requests in NumPy, one batch.

    Users like items by their tastes: the log odds of a click is an inner product of rank 2, and the
    privileged `visits_zscore` is that number. A conversion follows `basket_zscore`, known after the click.
    """
    return _make_batch


@pytest.fixture(scope="session")
def make_training():
    """(num_requests, seed) -> `TrainingData` of `make_batch`, with evaluation requests of their own."""
    return _make_training

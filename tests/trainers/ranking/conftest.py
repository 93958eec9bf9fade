"""Requests in memory whose clicks follow from what came before, for the tests of ranking."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from schemas import features as f
from trainers.layers.feature_embedding import PADDING
from trainers.preprocessing import EncodedFeature
from trainers.scorers.data import IS_ROW, QUERY, ROWS, TIME, USER, TrainingData

NUM_USERS, NUM_ITEMS, NUM_CATEGORIES = 50, 60, 6
_LIST_SIZE = 5
ITEM, CATEGORY = ("item_id_index", NUM_ITEMS + 1), ("category_index", NUM_CATEGORIES + 1)
FEATURES = (
    EncodedFeature("user_id_index", "user_id_index", NUM_USERS + 1, f.Role.QUERY, "user_id", False),
    EncodedFeature("history_item_id_index", *ITEM, f.Role.QUERY, "history", True),
    EncodedFeature("history_category_index", *CATEGORY, f.Role.QUERY, "history", True),
    EncodedFeature("item_id_index", *ITEM, f.Role.CANDIDATE, "item_id", False),
    EncodedFeature("category_index", *CATEGORY, f.Role.CANDIDATE, "attributes", False),
)


def category_of(items: np.ndarray) -> np.ndarray:
    return np.where(items > 0, items % NUM_CATEGORIES + 1, items)


def _make_batch(num_requests: int, seed: int, longest: int = 10) -> dict[str, Any]:
    """Requests of which an item is clicked if it is of the category clicked last; see `make_requests`."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, longest + 1, num_requests)
    lengths[0] = longest
    is_event = np.arange(f.HISTORY_SIZE) < lengths[:, np.newaxis]
    history = np.where(is_event, rng.integers(1, NUM_ITEMS + 1, is_event.shape), PADDING)
    shape = (num_requests, _LIST_SIZE)
    items = rng.integers(1, NUM_ITEMS + 1, shape)
    last = np.where(lengths > 0, category_of(history)[np.arange(num_requests), lengths - 1], 0)
    likes = category_of(items) == last[:, np.newaxis]
    clicked = rng.random(shape) < np.where(likes, 0.9, 0.1)
    user = rng.integers(1, NUM_USERS + 1, num_requests)
    return {
        QUERY: {
            "user_id_index": user,
            "history_item_id_index": history,
            "history_category_index": category_of(history),
        },
        ROWS: {
            "item_id_index": items,
            "category_index": category_of(items),
            f.CLICKED: clicked.astype(np.float32),
            f.CONVERTED: np.zeros(shape, np.float32),
        },
        IS_ROW: np.arange(_LIST_SIZE) < rng.integers(1, _LIST_SIZE + 1, num_requests)[:, np.newaxis],
        USER: user,
        TIME: np.zeros(num_requests, np.int64),
    }


def _make_training(num_requests: int, seed: int) -> TrainingData:
    batch = _make_batch(num_requests, seed)
    is_row, clicked = batch[IS_ROW], batch[ROWS][f.CLICKED]
    return TrainingData(
        features=FEATURES,
        train=tf.data.Dataset.from_tensor_slices(batch).batch(500),
        evaluation=tf.data.Dataset.from_tensors(_make_batch(500, seed + 1000)),
        num_requests=num_requests,
        num_rows=int(is_row.sum()),
        positive_rates=(float(clicked[is_row].mean()), 0.0),
    )


@pytest.fixture(scope="session")
def make_batch():
    """(num_requests, seed, longest history) -> requests in NumPy, one batch."""
    return _make_batch


@pytest.fixture(scope="session")
def make_training():
    """(num_requests, seed) -> `TrainingData` of `make_batch`, with evaluation requests of their own."""
    return _make_training


@pytest.fixture(scope="session")
def features():
    return FEATURES

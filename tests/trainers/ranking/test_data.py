"""Batches of requests of like length: nothing is lost, padding is not computed, seeds decide."""

import numpy as np
import pytest
import tensorflow as tf

from trainers.layers.feature_embedding import PADDING
from trainers.ranking.config import RankerConfig
from trainers.ranking.data import count_events, make_training_batches, trim
from trainers.ranking.features import select_features
from trainers.ranking.negatives import count_clicks
from trainers.scorers.data import QUERY, USER

CONFIG = RankerConfig(num_negatives=3)


@pytest.fixture
def make(make_batch, features, tmp_path):
    """(seed, epochs) -> the batches of each epoch."""

    def make(seed=1, epochs=1, name="kept"):
        seen = select_features(features, CONFIG)
        requests = tf.data.Dataset.from_tensors(make_batch(200, 3, longest=40)).unbatch().batch(50)
        sampler = count_clicks(requests, seen, CONFIG.num_negatives)
        batches = make_training_batches(requests, 16, str(tmp_path / name), seed, seen, sampler)
        return [list(batches) for _ in range(epochs)]

    return make


def columns(batch, names=("history_item_id_index", "history_category_index")):
    return [batch[QUERY][name].numpy() for name in names]


def find_requests(batches):
    """What tells requests apart, in no order."""
    return sorted(
        (int(user), tuple(row[row != PADDING].tolist()))
        for batch in batches
        for user, row in zip(batch[USER].numpy(), columns(batch)[0], strict=True)
    )


def test_every_request_comes_once_an_epoch(make, make_batch):
    wanted = make_batch(200, 3, longest=40)
    history = wanted[QUERY]["history_item_id_index"]
    expected = sorted(
        (int(user), tuple(row[row != PADDING].tolist()))
        for user, row in zip(wanted[USER], history, strict=True)
    )
    for epoch in make(epochs=2):
        assert find_requests(epoch) == expected


def test_a_batch_is_as_long_as_its_longest_history_and_its_histories_are_of_like_length(make):
    (batches,) = make()
    shares, starts = [], []
    for batch in batches:
        items, categories = columns(batch)
        lengths = (items != PADDING).sum(axis=1)
        assert items.shape == categories.shape and items.shape[1] == max(lengths.max(), 1)
        shares.append(lengths.sum() / items.size)
        starts.append(lengths.min())
    assert np.mean(shares) > 0.85  # of the cells hold an event: less than half of the untrimmed ones do
    assert starts != sorted(starts), "the batches come in any order of length"


def test_negatives_fit_the_batch_and_change_with_the_epoch(make):
    first, second = make(epochs=2)
    names = ("negative_history_item_id_index", "negative_history_category_index")
    for batch in (*first, *second):
        history, _ = columns(batch)
        items, categories = columns(batch, names)
        assert items.shape == (*history.shape, 3)
        np.testing.assert_array_equal(categories, items % 6 + 1)
    assert find_requests(first) == find_requests(second)
    assert _draws(first) != _draws(second)


def _draws(batches):
    names = ("negative_history_item_id_index",)
    return np.sort(np.concatenate([columns(batch, names)[0].ravel() for batch in batches])).tolist()


def test_the_seed_decides(make):
    def contents(batches):
        return [[x.tolist() for x in columns(batch)] + [_draws([batch])] for batch in batches]

    (first,), (again,), (other,) = make(1, name="a"), make(1, name="b"), make(2, name="c")
    assert contents(first) == contents(again)
    assert contents(first) != contents(other)


def test_of_empty_histories_one_column_of_padding_is_left(make_batch, features):
    batch = make_batch(5, 1)
    seen = select_features(features, CONFIG)
    names = [x.name for x in seen.history]
    empty = {name: np.full_like(batch[QUERY][name], PADDING) for name in names}
    trimmed = trim({**batch, QUERY: {**batch[QUERY], **empty}}, seen)
    assert count_events(trimmed, seen).numpy().tolist() == [0] * 5
    for name in names:
        np.testing.assert_array_equal(trimmed[QUERY][name], np.full((5, 1), PADDING))

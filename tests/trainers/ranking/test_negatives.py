"""Items for the auxiliary loss: in proportion to their clicks, none of the own history, by the seed."""

import numpy as np
import pytest
import tensorflow as tf

from trainers.layers.feature_embedding import PADDING
from trainers.ranking.config import RankerConfig
from trainers.ranking.features import select_features
from trainers.ranking.negatives import NegativeSampler, count_clicks
from trainers.scorers.data import IS_ROW, QUERY, ROWS

COLUMNS = ["history_item_id_index", "history_category_index"]
CLICKS = np.array([0, 5, 1, 0, 3, 1])  # of six ids, of which 0 is unknown


def make_sampler(clicks=CLICKS, num_negatives=400):
    items = np.stack([np.arange(len(clicks)), np.arange(len(clicks)) * 10], axis=1)
    return NegativeSampler(items, clicks, COLUMNS, 0, num_negatives)


def draw(sampler, history, seed=(1, 2)):
    batch = {QUERY: {COLUMNS[0]: tf.constant(history, tf.int64)}}
    query = sampler.add(batch, tf.constant(seed, tf.int64))[QUERY]
    return [query[f"negative_{name}"].numpy() for name in COLUMNS]


@pytest.mark.parametrize(
    "history",
    [[1, PADDING], [1, 1], [4, 0], [PADDING, PADDING], [0, 0], [3, 2], [5, 4], [2, 5], [1, 2]],
    ids=str,
)
def test_draws_are_in_proportion_to_the_clicks_of_what_is_not_in_the_history(history):
    (items,), (categories,) = draw(make_sampler(num_negatives=20_000), [history])
    left = CLICKS.copy()
    left[[x for x in history if x > 0]] = 0
    shares = np.bincount(items.ravel(), minlength=6) / items.size
    assert not shares[left == 0].any()
    np.testing.assert_allclose(shares, left / left.sum(), atol=0.012)  # 4 standard errors of 40,000 draws
    np.testing.assert_array_equal(categories, items * 10)


def test_each_history_has_its_own_items_left_out():
    rng = np.random.default_rng(0)
    history = rng.integers(PADDING, 60, (40, 12))
    clicks = np.r_[0, rng.integers(0, 5, 59)]
    items, _ = draw(make_sampler(clicks, num_negatives=50), history)
    assert items.shape == (40, 12, 50)
    for own, drawn in zip(history, items, strict=True):
        assert not np.isin(drawn, own).any() and (clicks[drawn] > 0).all()


def test_whoever_clicked_all_there_is_gets_none():
    items, categories = draw(make_sampler(num_negatives=3), [[1, 2, 4, 5], [1, 2, 4, 3]])
    assert (items[0] == PADDING).all() and (categories[0] == PADDING).all()
    assert (items[1] == 5).all()


def test_the_seed_is_all_that_changes_them():
    sampler, history = make_sampler(num_negatives=20), [[1, 2, PADDING]]
    first, again, other = (draw(sampler, history, seed)[0] for seed in ((1, 2), (1, 2), (3, 2)))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_clicks_are_counted_over_all_rows(make_batch, features):
    batches = [make_batch(30, seed) for seed in (1, 2)]
    requests = tf.data.Dataset.from_tensor_slices(
        {part: _concatenate([batch[part] for batch in batches]) for part in batches[0]}
    ).batch(20)
    sampler = count_clicks(requests, select_features(features, RankerConfig()), num_negatives=2000)
    clicks = np.zeros(61)
    for batch in batches:
        clicked = batch[IS_ROW] & (batch[ROWS]["clicked"] > 0)
        clicks += np.bincount(batch[ROWS]["item_id_index"][clicked], minlength=61)
    (items,), (categories,) = draw(sampler, [[PADDING] * 20])
    shares = np.bincount(items.ravel(), minlength=61) / items.size
    np.testing.assert_allclose(shares, clicks / clicks.sum(), atol=0.005)
    np.testing.assert_array_equal(categories, items % 6 + 1)


def _concatenate(parts):
    return tf.nest.map_structure(lambda *values: np.concatenate(values), *parts)

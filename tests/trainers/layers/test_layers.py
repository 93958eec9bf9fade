"""The layers: what they compute, what survives a round trip through their configuration."""

import numpy as np
import pytest
import tensorflow as tf

from schemas import features as f
from trainers.layers.feature_embedding import (
    PADDING,
    EmbeddingTables,
    FeatureEmbedding,
    IdDropout,
    table_dim,
)
from trainers.layers.history_pooling import HistoryPooling
from trainers.layers.tower import TowerTop
from trainers.preprocessing import EncodedFeature


def _feature(name, size, is_list=False):
    return EncodedFeature(name, name, size, f.Role.CANDIDATE, "group", is_list)


def test_id_dropout_replaces_its_share_and_leaves_padding():
    tf.random.set_seed(0)
    ids = tf.constant([[1, PADDING]] * 20_000, tf.int64)
    dropped = IdDropout(0.3)(ids, training=True).numpy()
    assert set(np.unique(dropped[:, 0])) == {0, 1}
    assert abs(np.mean(dropped[:, 0] == 0) - 0.3) < 0.02
    assert np.all(dropped[:, 1] == PADDING)
    np.testing.assert_array_equal(IdDropout(0.3)(ids, training=False), ids)


def test_id_dropout_drops_numbers_of_either_sign():
    tf.random.set_seed(0)
    dropped = IdDropout(0.5)(tf.constant([-2.0, 2.0] * 2000), training=True).numpy().reshape(-1, 2)
    assert np.all(np.abs(np.mean(dropped == 0, axis=0) - 0.5) < 0.05)


@pytest.mark.parametrize(("rate", "moves"), [(0.0, False), (0.5, True)])
def test_the_unknown_row_is_trained_by_id_dropout_alone(rate, moves):
    tf.keras.utils.set_random_seed(0)
    tables = EmbeddingTables({"x": 5}, 4)
    layer = FeatureEmbedding([_feature("x", 5)], tables, rate)
    batch = {"x": tf.constant([1, 2, 3, 4] * 8, tf.int64)}
    layer(batch)
    (table,) = tables.trainable_variables
    before = table.numpy()
    optimizer = tf.keras.optimizers.SGD(0.1)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(batch, training=True) ** 2)
    optimizer.apply_gradients([(tape.gradient(loss, table), table)])
    assert np.any(table.numpy()[1:] != before[1:])
    assert np.any(table.numpy()[0] != before[0]) == moves


def test_a_table_starts_from_the_given_columns():
    tables = EmbeddingTables({"x": 3, "y": 3}, 4)
    tables(tf.constant([0]), table="x")
    before = {v.name: v.numpy() for v in tables.trainable_variables}
    rows = np.arange(6.0).reshape(3, 2)
    tables.start_from("x", rows)
    for variable in tables.trainable_variables:
        expected = before[variable.name].copy()
        if variable.name.endswith("x:0"):
            expected[:, :2] = rows
        np.testing.assert_array_equal(variable.numpy(), expected)


def test_lists_are_averaged_without_their_padding():
    tables = EmbeddingTables({"x": 4}, 2)
    layer = FeatureEmbedding([_feature("x", 4, is_list=True), _feature("number", 0)], tables, 0.0)
    lists = tf.constant([[1, 3, PADDING], [PADDING] * 3, [0, PADDING, PADDING]], tf.int64)
    vectors = layer({"x": lists, "number": tf.constant([0.5, -1.0, 2.0])}).numpy()
    (table,) = (v.numpy() for v in tables.trainable_variables)
    np.testing.assert_allclose(vectors[0], [*(table[1] + table[3]) / 2, 0.5], rtol=1e-6)
    np.testing.assert_allclose(vectors[1], [0.0, 0.0, -1.0])
    np.testing.assert_allclose(vectors[2], [*table[0], 2.0], rtol=1e-6)


def test_a_table_has_columns_for_its_rows():
    assert [table_dim(size, 64) for size in (2, 40, 10_000)] == [8, 18, 64]


def test_pooling_weighs_by_the_events_that_follow():
    """Equal events but for their values: head h's weights are softmax(-decay_h · events after)."""
    pooling = HistoryPooling(num_heads=2, hidden_dim=3, max_length=4)
    events = tf.constant([[[1.0], [10.0], [100.0], [1000.0]]])
    mask = tf.constant([[True, False, True, False]])  # a hole is no event
    pooling(events, mask)
    pooling._score.kernel.assign(tf.zeros([3, 2]))
    # Decays 0 and 1: (1 + 100) / 2, and (e^-1 · 1 + e^0 · 100) / (e^-1 + 1).
    expected = [50.5, (np.exp(-1) + 100) / (np.exp(-1) + 1)]
    np.testing.assert_allclose(pooling(events, mask)[0], expected, rtol=1e-5)


def test_pooling_an_empty_history_gives_zeros_and_finite_gradients():
    pooling = HistoryPooling(num_heads=2, hidden_dim=3, max_length=4)
    events = tf.Variable(tf.random.normal([1, 4, 2]))
    with tf.GradientTape() as tape:
        pooled = pooling(events, tf.zeros([1, 4], tf.bool))
        loss = tf.reduce_sum(pooled)
    np.testing.assert_array_equal(pooled, np.zeros([1, 4]))
    assert np.all(np.isfinite(tape.gradient(loss, events)))


def test_pooling_ignores_what_stands_behind_the_mask():
    pooling = HistoryPooling(num_heads=2, hidden_dim=3, max_length=4)
    events = np.random.default_rng(0).normal(size=(1, 4, 2)).astype(np.float32)
    other = events.copy()
    other[0, 2:] = 99.0
    mask = tf.constant([[True, True, False, False]])
    np.testing.assert_array_equal(pooling(events, mask), pooling(other, mask))
    np.testing.assert_allclose(pooling(events[:, :2], mask[:, :2]), pooling(events, mask), rtol=1e-6)


@pytest.mark.parametrize(
    "layer",
    [
        IdDropout(0.3, name="a"),
        EmbeddingTables({"x": 3}, 4, name="b"),
        HistoryPooling(2, 3, 4, name="c"),
        TowerTop((5, 4), 3, True, 0.1, name="d"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_configuration_round_trips(layer):
    config = layer.get_config()
    again = type(layer).from_config(config)
    assert again.get_config() == config
    inputs = {
        "IdDropout": (tf.constant([1]),),
        "EmbeddingTables": (tf.constant([1]), "x"),
        "HistoryPooling": (tf.ones([1, 4, 2]), tf.ones([1, 4], tf.bool)),
        "TowerTop": (tf.ones([1, 2]),),
    }[type(layer).__name__]
    outputs = layer(*inputs), again(*inputs)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(*inputs), outputs[0])

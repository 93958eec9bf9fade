"""What ranking models learn of data whose answer is known, and what each of their parts is for."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf

from trainers.ranking import train
from trainers.ranking.config import RankerConfig
from trainers.ranking.features import NEGATIVE_PREFIX, select_features
from trainers.ranking.negatives import count_clicks
from trainers.scorers.data import QUERY, flatten
from trainers.scorers.selection import AUC

CONFIG = RankerConfig(
    embedding_dim=8,
    units=12,
    attention_dims=(16,),
    head_dims=(32,),
    product_dim=4,
    batch_size=256,
    max_epochs=6,
    patience_epochs=6,
    learning_rate=1e-2,
    weight_decay=0.0,
    weight_averaging=0.9,
    dropout=0.0,
    id_dropout=0.0,
    query_dropout=0.0,
    event_dropout=0.0,
)


@pytest.fixture(scope="module")
def training(make_training):
    return make_training(3000, seed=1)


def best_auc(config, training):
    result = train.train_ranker(config, training)
    return max(result.history[AUC])


@pytest.mark.slow
def test_only_what_follows_the_order_finds_which_click_was_the_last(training):
    """A click is .9 or .1 by the category clicked last: an AUC of about .8 for who knows it.

    The mean of a history knows that the category is one of some five.
    """
    auc = {
        name: best_auc(dataclasses.replace(CONFIG, interest=name), training)
        for name in ("none", "din", "gru", "augru")
    }
    assert auc["none"] < 0.55
    assert 0.55 < auc["din"] < 0.72
    assert auc["gru"] > auc["din"] + 0.03 and auc["augru"] > auc["din"] + 0.05


@pytest.fixture(scope="module")
def extractor(training):
    """(negatives are the events themselves?) -> the auxiliary loss after training on it alone."""

    def train_extractor(same):
        tf.keras.utils.set_random_seed(3)
        model = train.build_training(dataclasses.replace(CONFIG, auxiliary_weight=1.0), training)
        features = select_features(training.features, CONFIG)
        sampler = count_clicks(training.train, features, 2)
        model.compile(tf.keras.optimizers.Adam(1e-2))
        losses = []
        requests = training.train.map(follow).unbatch().batch(250).repeat(10)
        seeds = tf.data.Dataset.range(10**6).map(lambda step: tf.stack([step, 1]))
        for batch in tf.data.Dataset.zip(requests, seeds).map(sampler.add):
            inputs = flatten(batch)
            if same:
                inputs |= {
                    NEGATIVE_PREFIX + x.name: tf.repeat(inputs[x.name][:, :, tf.newaxis], 2, axis=2)
                    for x in features.behaviour
                }
            with tf.GradientTape() as tape:
                model.scorer(inputs, training=True)
                (loss,) = model.scorer.losses
            variables = model.trainable_variables
            gradients = zip(tape.gradient(loss, variables), variables, strict=True)
            model.optimizer.apply_gradients([(g, v) for g, v in gradients if g is not None])
            losses.append(float(loss))
        return np.mean(losses[-10:])

    return train_extractor


def follow(batch):
    """Histories in which each item's successor is the next item of the list of all."""
    history = batch[QUERY]["history_item_id_index"]
    steps = tf.range(tf.shape(history)[1], dtype=history.dtype)
    items = tf.where(history > 0, (history[:, :1] + steps) % 60 + 1, history)
    columns = {
        "history_item_id_index": items,
        "history_category_index": tf.where(items > 0, items % 6 + 1, items),
    }
    return {**batch, QUERY: {**batch[QUERY], **columns}}


@pytest.mark.slow
def test_the_auxiliary_loss_learns_the_next_click_and_nothing_where_negatives_are_the_events(extractor):
    """2 log 2 is what a coin has; where both are the same, nothing can be below it."""
    assert extractor(same=False) < 0.5
    assert extractor(same=True) == pytest.approx(2 * math.log(2), abs=0.02)


def test_the_auxiliary_loss_counts_in_training_alone(training):
    model = train.build_training(CONFIG, training)
    batch = next(iter(training.train))
    sampler = count_clicks(training.train, select_features(training.features, CONFIG), 2)
    inputs = flatten(sampler.add(batch, tf.constant([1, 2], tf.int64)))
    with_it = float(model.compute_batch_loss(inputs))
    (auxiliary,) = model.scorer.losses
    without = train.build_training(dataclasses.replace(CONFIG, auxiliary_weight=0.0), training)
    without.compute_batch_loss(inputs)
    without.scorer.set_weights(_same(model.scorer, without.scorer))
    assert float(without.compute_batch_loss(inputs)) == pytest.approx(with_it - float(auxiliary), rel=1e-5)
    model.scorer(inputs, training=False)
    assert not model.scorer.losses


def _same(source, target):
    """The source's weights for those that the target has too."""
    by_name = {v.name.split("ranker/", 1)[-1]: v.numpy() for v in source.variables}
    return [by_name.get(v.name.split("ranker/", 1)[-1], v.numpy()) for v in target.variables]


def test_a_booster_shares_the_embeddings_and_is_thrown_away(training):
    config = dataclasses.replace(CONFIG, booster_units=24, max_epochs=1)
    model = train.build_training(config, training)
    assert model.scorer.tables is model.teacher.tables
    assert (model.scorer.config.units, model.teacher.config.units) == (12, 24)
    result = train.train_ranker(config, training)
    assert result.scorer.config.units == 12
    assert not any("24" in str(v.shape) for v in result.scorer.variables if "recurrent" in v.name)


def test_a_teacher_and_a_booster_are_refused_together(training):
    with pytest.raises(ValueError, match="learns from one of them"):
        train.build_training(dataclasses.replace(CONFIG, booster_units=24), training, teacher=object())

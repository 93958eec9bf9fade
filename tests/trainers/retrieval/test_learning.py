"""What the towers must learn, on planted data whose answer is known."""

import numpy as np
import pytest
import tensorflow as tf

from schemas import features as f
from trainers.layers.feature_embedding import PADDING
from trainers.preprocessing import EncodedFeature
from trainers.retrieval.config import RetrievalConfig
from trainers.retrieval.model import HISTORY_ITEM_INDEX, ITEM_INDEX, USER_INDEX, RetrievalModel

NUM_ITEMS = 24
FEATURES = (
    EncodedFeature(USER_INDEX, USER_INDEX, 41, f.Role.QUERY, "user_id", False),
    EncodedFeature(HISTORY_ITEM_INDEX, ITEM_INDEX, NUM_ITEMS + 1, f.Role.QUERY, "history", True),
    EncodedFeature(ITEM_INDEX, ITEM_INDEX, NUM_ITEMS + 1, f.Role.CANDIDATE, "item_id", False),
)
CATALOGUE = {ITEM_INDEX: np.arange(1, NUM_ITEMS + 1)}
CONFIG = RetrievalConfig(
    embedding_dim=16,
    output_dim=16,
    num_history_heads=2,
    num_uniform_negatives=32,
    batch_size=64,
    dropout=0.0,
    event_dropout=0.0,
    query_dropout=0.1,
    weight_decay=0.0,
)


def _config(**changes):
    return RetrievalConfig(**{**vars(CONFIG), **changes})


def _train(rows, steps, **changes):
    config = _config(**changes)
    tf.keras.utils.set_random_seed(1)
    clicks = np.bincount(rows[ITEM_INDEX], minlength=NUM_ITEMS + 1)
    model = RetrievalModel(FEATURES, CATALOGUE, clicks / clicks.sum(), config)
    model.compile(optimizer=tf.keras.optimizers.AdamW(0.02, weight_decay=0.0))
    batches = tf.data.Dataset.from_tensor_slices(rows).shuffle(10_000, seed=1).repeat()
    model.fit(batches.batch(config.batch_size), steps_per_epoch=steps, epochs=1, verbose=0)
    return model


def _scores(model, rows):
    queries = model.query_tower({x.name: tf.constant(rows[x.name]) for x in model.query_features})
    items = model.candidate_tower({ITEM_INDEX: tf.constant(CATALOGUE[ITEM_INDEX])})
    return tf.matmul(queries, items, transpose_b=True).numpy()


def _history(lists, width=4):
    return np.array([[*items, *[PADDING] * (width - len(items))] for items in lists])


def test_withheld_items_of_the_users_block_rank_first():
    """40 users in 4 groups; group g clicks items 6g + 1 ... 6g + 6, each user but one of them."""
    pairs = [(user, 6 * (user % 4) + 1 + k) for user in range(1, 41) for k in range(6)]
    withheld = {(user, 6 * (user % 4) + 1 + user // 4 % 6) for user in range(1, 41)}
    seen = [pair for pair in pairs if pair not in withheld]
    users, items = np.array(seen).T
    rows = {USER_INDEX: users, ITEM_INDEX: items, HISTORY_ITEM_INDEX: _history([[]] * len(users))}
    model = _train(rows, steps=150)

    test_users, targets = np.array(sorted(withheld)).T
    scores = _scores(model, {USER_INDEX: test_users, HISTORY_ITEM_INDEX: _history([[]] * 40)})
    for user, row in zip(test_users, scores, strict=True):
        row[[item - 1 for u, item in seen if u == user]] = -np.inf
    assert np.mean(scores.argmax(axis=1) == targets - 1) == 1.0


@pytest.fixture(scope="module")
def sequences():
    """Rows whose item follows from the last event alone, by a random permutation."""
    rng = np.random.default_rng(0)
    histories = rng.integers(1, NUM_ITEMS + 1, (2000, 3))
    successor = rng.permutation(NUM_ITEMS) + 1
    users = rng.integers(1, 41, 2000)
    rows = {
        USER_INDEX: users,
        HISTORY_ITEM_INDEX: _history(histories),
        ITEM_INDEX: successor[histories[:, -1] - 1],
    }
    fresh = rng.integers(1, NUM_ITEMS + 1, (300, 3))
    test = {USER_INDEX: rng.integers(1, 41, 300), HISTORY_ITEM_INDEX: _history(fresh)}
    return rows, test, successor[fresh[:, -1] - 1]


def test_the_successor_of_the_last_item_is_learnt_from_the_history_alone(sequences):
    rows, test, targets = sequences
    hits = {}
    for groups in ((), ("history",)):
        model = _train(rows, steps=250, disabled_groups=groups)
        hits[groups] = np.mean(_scores(model, test).argmax(axis=1) == targets - 1)
    assert hits[()] > 0.9
    assert hits[("history",)] < 0.15, "1/24 is chance"


def _gradient_norm(batch_size, num_uniform):
    tf.keras.utils.set_random_seed(1)
    share = np.r_[0.0, np.full(NUM_ITEMS, 1 / NUM_ITEMS)]
    model = RetrievalModel(FEATURES, CATALOGUE, share, _config(num_uniform_negatives=num_uniform))
    rows = {
        USER_INDEX: np.arange(1, batch_size + 1),
        ITEM_INDEX: np.arange(1, batch_size + 1),
        HISTORY_ITEM_INDEX: _history([[5]] * batch_size),
    }
    inputs = {name: tf.constant(values) for name, values in rows.items()}
    with tf.GradientTape() as tape:
        loss = model.compute_loss(inputs, training=False)
    return float(tf.linalg.global_norm(tape.gradient(loss, model.trainable_variables)))


def test_a_batch_of_one_learns_from_uniform_negatives():
    assert _gradient_norm(batch_size=1, num_uniform=0) < 1e-6, "in-batch alone, it has no negative"
    assert _gradient_norm(batch_size=1, num_uniform=32) > 1e-3
    assert _gradient_norm(batch_size=2, num_uniform=0) > 1e-3


def test_unknown_items_sink_below_what_is_clicked():
    """An item unseen in training must not flood the top: its vector is trained by id dropout."""
    rng = np.random.default_rng(0)
    items = rng.choice(NUM_ITEMS // 2, 2000) + 1  # the other half is never clicked
    rows = {
        USER_INDEX: rng.integers(1, 41, 2000),
        ITEM_INDEX: items,
        HISTORY_ITEM_INDEX: _history([[]] * 2000),
    }
    model = _train(rows, steps=150, id_dropout=0.1)
    queries = {USER_INDEX: np.zeros(1, np.int64), HISTORY_ITEM_INDEX: _history([[]])}
    clicked, never = np.split(_scores(model, queries)[0], 2)
    unknown = model.candidate_tower({ITEM_INDEX: tf.constant([0])})
    query = model.query_tower({name: tf.constant(values) for name, values in queries.items()})
    unknown_score = float(tf.matmul(query, unknown, transpose_b=True)[0, 0])
    assert never.max() < unknown_score < clicked.min()


def test_what_was_clicked_is_a_negative_only_if_told_so():
    """The row's history holds every other item: masked, nothing is left that it could lose to."""
    others = list(range(2, NUM_ITEMS + 1))
    row = {USER_INDEX: np.array([1]), ITEM_INDEX: np.array([1])}
    row[HISTORY_ITEM_INDEX] = _history([others], NUM_ITEMS - 1)
    losses = []
    for mask_clicked in (True, False):
        tf.keras.utils.set_random_seed(1)
        config = _config(mask_clicked=mask_clicked)
        model = RetrievalModel(FEATURES, CATALOGUE, np.full(NUM_ITEMS + 1, 1 / NUM_ITEMS), config)
        losses.append(float(model.compute_loss({name: tf.constant(x) for name, x in row.items()})))
    assert losses[0] == 0.0
    assert losses[1] > 0.1

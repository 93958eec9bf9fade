"""Ranks and the figure by which an epoch is chosen, worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf

from trainers.preprocessing import USER_KEY
from trainers.retrieval.selection import _collect_targets, _rank, compute_user_recall


def test_rank_leaves_the_history_out_and_counts_ties_against_the_target():
    scores = tf.constant([[5.0, 4.0, 3.0, 2.0], [1.0, 1.0, 1.0, 1.0], [9.0, 8.0, 7.0, 6.0]])
    history = tf.constant([[1, -1, -1], [0, -1, -1], [4, 1, 1]], tf.int64)  # index 1 is column 0
    # Row 0: target column 2 behind 5 (history) and 4. Row 1: three ties. Row 2: the target is in its own
    # history, so it stays; of those above it column 0 is left out.
    assert _rank(scores, tf.constant([2, 0, 3], tf.int64), history).numpy().tolist() == [1, 3, 2]


def test_scores_that_are_not_numbers_rank_last():
    scores = tf.fill([1, 5], float("nan"))
    assert _rank(scores, tf.constant([2], tf.int64), tf.constant([[-1]], tf.int64)).numpy().tolist() == [4]


def test_recall_is_a_mean_over_users():
    # User 7: ranks 0, 10, 100, 100 -> recall@10 1/4, @100 2/4. User 3: rank 9 -> 1 and 1.
    recall = compute_user_recall(np.array([0, 10, 9, 100, 100]), np.array([7, 7, 3, 7, 7]))
    assert recall == pytest.approx(np.mean([np.mean([0.25, 1.0]), np.mean([0.5, 1.0])]))
    assert compute_user_recall(np.zeros(0), np.zeros(0)) == 0.0


def test_new_items_join_the_catalogue_once():
    catalogue = {"item_id_index": np.array([1, 2]), "price": np.array([0.5, 1.5], np.float32)}
    batches = tf.data.Dataset.from_tensor_slices(
        {
            "item_id_index": np.array([2, 0, 0, 0, 1]),
            "price": np.array([1.5, 3.0, 4.0, 3.0, 0.5], np.float32),
            USER_KEY: np.array([11, 12, 11, 11, 12]),
        }
    ).batch(2)
    users, targets, extended = _collect_targets(batches, catalogue)
    assert users.tolist() == [11, 12, 11, 11, 12]
    assert targets.tolist() == [1, 2, 3, 2, 0]
    assert extended["item_id_index"].tolist() == [1, 2, 0, 0]
    assert extended["price"].tolist() == [0.5, 1.5, 3.0, 4.0]

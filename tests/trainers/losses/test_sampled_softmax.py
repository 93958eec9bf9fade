"""The sampled softmax against numbers worked out by hand and against the full softmax."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs

from trainers.losses.sampled_softmax import compute_sampling_probability, make_score_mask


def _task(temperature=1.0):
    return tfrs.tasks.Retrieval(
        loss=tf.keras.losses.CategoricalCrossentropy(
            from_logits=True, reduction=tf.keras.losses.Reduction.SUM_OVER_BATCH_SIZE
        ),
        temperature=temperature,
        remove_accidental_hits=True,
    )


def test_loss_with_log_q_matches_the_equation_on_three_rows_and_four_candidates():
    queries = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], np.float32)
    candidates = np.array([[2.0, 1.0], [0.0, 3.0], [1.0, -1.0], [0.5, 0.5]], np.float32)
    probability = np.array([0.5, 0.2, 0.1, 0.25], np.float32)
    loss = _task(temperature=0.5)(
        queries,
        candidates,
        candidate_ids=tf.constant([1, 2, 3, 4]),
        candidate_sampling_probability=tf.constant(probability),
        compute_metrics=False,
    )
    # Scores q·c/T; rows: [4, 0, 2, 1], [2, 6, -2, 1], [6, 6, 0, 2]; then - log p.
    corrected = np.array([[4, 0, 2, 1], [2, 6, -2, 1], [6, 6, 0, 2]]) - np.log(probability)
    positives = corrected[np.arange(3), np.arange(3)]
    expected = np.mean(np.log(np.exp(corrected).sum(axis=1)) - positives)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_mask_drops_what_the_user_likes_and_keeps_the_own_positive():
    mask = make_score_mask(
        candidate_ids=tf.constant([5, 6, 7, 8, 9, 6], tf.int64),
        user_ids=tf.constant([1, 1, 0, 0], tf.int64),
        history_ids=tf.constant([[9, 5, -1], [-1, -1, -1], [0, 6, -1], [8, -1, -1]], tf.int64),
        num_in_batch=4,
    )
    expected = [
        # 5: own though in the history; 6 in row 1: the same user's; 9: history
        [True, False, True, True, False, True],
        [False, True, True, True, True, True],
        # Two unknown users share nothing; 6 is in the history, wherever it stands in the pool.
        [True, False, True, True, True, False],
        [True, True, True, True, True, True],
    ]
    assert mask.numpy().tolist() == expected


def test_mask_takes_a_batch_of_one_without_history():
    mask = make_score_mask(
        tf.constant([5, 6], tf.int64), tf.constant([1], tf.int64), tf.constant([[-1, -1]], tf.int64), 1
    )
    assert mask.numpy().tolist() == [[True, True]]


@pytest.mark.parametrize("num_uniform", [0, 6])
def test_sampling_probability_is_the_frequency_in_a_simulated_pool(num_uniform):
    rng = np.random.default_rng(0)
    share, batch, pools = np.array([0.5, 0.3, 0.15, 0.05]), 4, 20_000
    in_batch = rng.choice(4, (pools, batch), p=share)
    uniform = rng.integers(0, 4, (pools, num_uniform))
    drawn = np.concatenate([in_batch, uniform], axis=1)
    frequency = np.bincount(drawn.ravel(), minlength=4) / drawn.size
    probability = compute_sampling_probability(tf.constant(share, tf.float32), batch, num_uniform, 4)
    np.testing.assert_allclose(probability, frequency, atol=0.004)
    np.testing.assert_allclose(np.sum(probability), 1.0, rtol=1e-6)


def test_many_samples_give_the_full_softmax():
    """With logQ the sampled loss tends to the full one; without it, it stays away from it."""
    rng = np.random.default_rng(1)
    share = np.array([0.6, 0.2, 0.1, 0.05, 0.05])
    queries, items = rng.normal(size=(1, 3)).astype(np.float32), rng.normal(size=(5, 3)).astype(np.float32)
    logits = (queries @ items.T)[0]
    target = 3
    full = np.log(np.exp(logits).sum()) - logits[target]
    # A pool of draws by popularity alone; its first slot is the row's positive.
    pool = np.concatenate([[target], rng.choice(5, 200_000, p=share)])
    probability = compute_sampling_probability(tf.constant(share[pool], tf.float32), len(pool), 0, 5)
    loss = {
        corrected: float(
            _task()(
                queries,
                items[pool],
                candidate_ids=tf.range(len(pool)),  # copies of the positive are draws like any other
                candidate_sampling_probability=probability if corrected else None,
                compute_metrics=False,
            )
        )
        - np.log(len(pool))
        for corrected in (True, False)
    }
    # Σ over the pool of exp(s)/p estimates n·Σ exp(s); the positive itself was corrected by -log p as well.
    assert abs(loss[True] - np.log(share[target]) - full) < 0.02
    assert abs(loss[False] - full) > 0.2

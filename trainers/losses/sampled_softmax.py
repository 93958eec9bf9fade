"""What the sampled softmax needs beside `tfrs.tasks.Retrieval`: sampling probabilities and masks."""

import tensorflow as tf


def compute_sampling_probability(
    positive_share: tf.Tensor, num_in_batch: tf.Tensor, num_uniform: int, num_items: int
) -> tf.Tensor:
    """How likely a slot of the candidate pool holds an item (logQ, Yi et al., RecSys 2019, eq. 3-5).

    The pool mixes the batch's positives, drawn as often as they occur in training, with uniform draws
    from all items (mixed negative sampling, Yang et al., WWW 2020).

    Args:
      positive_share: [C] the items' shares of the training positives.
      num_in_batch: positives in the pool.
      num_uniform: uniform draws in the pool.
      num_items: items the uniform draws come from.

    Returns:
      [C] probabilities, > 0 wherever an item can be drawn.
    """
    in_batch = tf.cast(num_in_batch, tf.float32)
    expected = in_batch * positive_share + num_uniform / num_items
    return tf.maximum(expected / (in_batch + num_uniform), 1e-9)


def make_score_mask(
    candidate_ids: tf.Tensor, user_ids: tf.Tensor, history_ids: tf.Tensor, num_in_batch: tf.Tensor
) -> tf.Tensor:
    """Which candidates may serve as a row's negatives; the row's own positive always stays.

    Excluded are the batch's other positives of the same user and what the user clicked before: items
    the user likes are no negatives.

    Args:
      candidate_ids: int64 [C]; the first `num_in_batch` are the batch's positives, row by row.
      user_ids: int64 [B]; 0 is nobody in particular and shares nothing with other rows.
      history_ids: int64 [B, T]; padding is negative, 0 is an unknown item.
      num_in_batch: B.

    Returns:
      bool [B, C].
    """
    num_extra = tf.shape(candidate_ids)[0] - num_in_batch
    same_user = (user_ids[:, tf.newaxis] == user_ids[tf.newaxis, :]) & (user_ids > 0)[:, tf.newaxis]
    same_user = tf.pad(same_user, [[0, 0], [0, num_extra]])
    # Look each history entry up among the sorted candidates: B·T·log C instead of B·T·C.
    unique_ids, inverse = tf.unique(candidate_ids)
    order = tf.argsort(unique_ids)
    sorted_ids = tf.gather(unique_ids, order)
    flat = tf.reshape(history_ids, [-1])
    slot = tf.minimum(tf.searchsorted(sorted_ids, flat), tf.shape(sorted_ids)[0] - 1)
    found = (tf.gather(sorted_ids, slot) == flat) & (flat > 0)
    rows = tf.repeat(tf.range(tf.shape(history_ids)[0]), tf.shape(history_ids)[1])
    where = tf.boolean_mask(tf.stack([rows, tf.gather(order, slot)], axis=1), found)
    hits = tf.scatter_nd(
        where, tf.ones(tf.shape(where)[0], tf.int32), [tf.shape(history_ids)[0], tf.shape(unique_ids)[0]]
    )
    in_history = tf.gather(hits > 0, inverse, axis=1)  # [B, C]
    own = tf.eye(tf.shape(user_ids)[0], tf.shape(candidate_ids)[0], dtype=tf.bool)
    return own | ~(same_user | in_history)

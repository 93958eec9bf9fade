"""The extractor's auxiliary loss: each interest tells the next click from items that were not clicked."""

import tensorflow as tf


def compute_next_behaviour_loss(
    interests: tf.Tensor, events: tf.Tensor, negatives: tf.Tensor, mask: tf.Tensor
) -> tf.Tensor:
    """-(1/n) Σ_t [log σ(<h_t, e_t+1>) + mean_k log(1 - σ(<h_t, ê_t+1,k>))] (Zhou et al. 2019, DIEN, eq. 6).

    A step counts where it and the next hold an event; n is their number, and the loss 0 where there is none.
    One product is for both, so that nothing but the events tells them apart.

    Args:
      interests: [R, T, H], oldest first.
      events: [R, T, H] embeddings of what was clicked.
      negatives: [R, T, K, H] embeddings of what was not, of the step's time.
      mask: bool [R, T], true where there is an event.

    Returns:
      a scalar.
    """
    before = interests[:, :-1]
    pairs = tf.cast(mask[:, :-1] & mask[:, 1:], interests.dtype)
    positive = tf.einsum("rth,rth->rt", before, events[:, 1:])
    negative = tf.einsum("rth,rtkh->rtk", before, negatives[:, 1:])
    # From logits: -log σ(x) = softplus(-x).
    losses = tf.nn.softplus(-positive) + tf.reduce_mean(tf.nn.softplus(negative), axis=2)
    return tf.math.divide_no_nan(tf.reduce_sum(losses * pairs), tf.reduce_sum(pairs))

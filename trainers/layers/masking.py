"""Weights over what is there."""

import tensorflow as tf


def masked_softmax(logits: tf.Tensor, mask: tf.Tensor, axis: int) -> tf.Tensor:
    """The softmax over the entries of a mask; 0 for the others, and everywhere where there is none.

    Args:
      logits: any shape.
      mask: bool, of a shape that broadcasts to it.
      axis: over which the weights sum to 1.
    """
    logits = tf.where(mask, logits, tf.constant(-1e9, logits.dtype))
    return tf.where(mask, tf.nn.softmax(logits, axis=axis), 0.0)

"""Transformed examples to dense tensors, and to shuffled batches of them."""

from typing import Any

import tensorflow as tf

from schemas import features as f
from trainers.layers.feature_embedding import PADDING
from trainers.preprocessing import EncodedFeature

FeatureSpec = dict[str, tf.io.FixedLenFeature | tf.io.RaggedFeature]
_MAX_LIST_SIZE = 8  # of an item's tokens or labels; a longer list is cut


def to_dense(values: tf.Tensor | tf.RaggedTensor, feature: EncodedFeature) -> tf.Tensor:
    """A list as [B, n] filled with `PADDING`; a history keeps its newest, another list its first values."""
    if not isinstance(values, tf.RaggedTensor):
        return values
    if feature.role is f.Role.QUERY:
        return values[:, -f.HISTORY_SIZE :].to_tensor(PADDING, shape=[None, f.HISTORY_SIZE])
    return values.to_tensor(PADDING, shape=[None, _MAX_LIST_SIZE])


def make_dense_spec(feature: EncodedFeature) -> tf.TensorSpec:
    """The shape and type that `to_dense` gives a feature."""
    dtype = tf.int64 if feature.size else tf.float32
    if not feature.is_list:
        return tf.TensorSpec([None], dtype)
    return tf.TensorSpec([None, f.HISTORY_SIZE if feature.role is f.Role.QUERY else _MAX_LIST_SIZE], dtype)


def make_shuffled_batches(
    blocks: tf.data.Dataset, batch_size: int, cache_file: str, seed: int, *, block_size: int, buffer_size: int
) -> tf.data.Dataset:
    """Shuffled batches.

    Examples move in blocks, never one by one: blocks are shuffled, joined to a large buffer, and the buffer's
    examples are permuted. Shuffling single ones of twenty columns takes longer than training on them.

    Args:
      blocks: batches of examples, any structure of dense tensors.
      batch_size: examples of a training batch; the last one of an epoch may have fewer.
      cache_file: where the blocks are kept between epochs; before the shuffle, or the batches would freeze.
      seed: of the shuffle.
      block_size: examples of a block, about.
      buffer_size: examples permuted together.
    """
    shuffled = blocks.cache(cache_file).shuffle(
        max(buffer_size // block_size, 1), seed=seed, reshuffle_each_iteration=True
    )
    buffers = shuffled.rebatch(buffer_size)
    seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(2, drop_remainder=True)
    permuted = tf.data.Dataset.zip(buffers, seeds).map(_permute)
    return permuted.rebatch(batch_size).prefetch(tf.data.AUTOTUNE)


def _permute(examples: Any, seed: tf.Tensor) -> Any:
    """The same examples in another order."""
    order = tf.range(tf.shape(tf.nest.flatten(examples)[0])[0])
    order = tf.random.experimental.stateless_shuffle(order, seed)
    return tf.nest.map_structure(lambda values: tf.gather(values, order), examples)

"""Transformed examples to dense tensors, and to shuffled batches of them."""

from collections.abc import Callable
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
    blocks: tf.data.Dataset,
    batch_size: int,
    cache_file: str,
    seed: int,
    *,
    block_size: int,
    buffer_size: int,
    length: Callable[[Any], tf.Tensor] | None = None,
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
      length: of each example [n] of a block or buffer; where it is given, examples of like length share a
        batch: those of a buffer are sorted, equals as they were shuffled, and its batches shuffled.
    """
    shuffled = blocks.cache(cache_file).shuffle(
        max(buffer_size // block_size, 1), seed=seed, reshuffle_each_iteration=True
    )
    buffers = shuffled.rebatch(buffer_size)
    permuted = tf.data.Dataset.zip(buffers, make_seeds(seed)).map(_permute)
    if length is None:
        return permuted.rebatch(batch_size).prefetch(tf.data.AUTOTUNE)
    batches = permuted.map(lambda examples: _take(examples, tf.argsort(length(examples), stable=True)))
    batches = batches.rebatch(batch_size).shuffle(
        max(buffer_size // batch_size, 1), seed=seed, reshuffle_each_iteration=True
    )
    return batches.prefetch(tf.data.AUTOTUNE)


def make_seeds(seed: int) -> tf.data.Dataset:
    """Seeds [2] of stateless operations without end; others in each epoch, the same in each run."""
    return tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(2, drop_remainder=True)


def _permute(examples: Any, seed: tf.Tensor) -> Any:
    """The same examples in another order."""
    order = tf.range(tf.shape(tf.nest.flatten(examples)[0])[0])
    return _take(examples, tf.random.experimental.stateless_shuffle(order, seed))


def _take(examples: Any, order: tf.Tensor) -> Any:
    return tf.nest.map_structure(lambda values: tf.gather(values, order), examples)

"""Batches of requests whose histories are of like length, with items that were not clicked beside them."""

import tensorflow as tf

from trainers.batches import make_seeds
from trainers.layers.feature_embedding import PADDING
from trainers.ranking.features import RankerFeatures
from trainers.ranking.negatives import NegativeSampler
from trainers.scorers.data import QUERY, Batch
from trainers.scorers.data import make_training_batches as make_request_batches


def make_training_batches(
    requests: tf.data.Dataset,
    num_requests: int,
    cache_file: str,
    seed: int,
    features: RankerFeatures,
    sampler: NegativeSampler | None,
) -> tf.data.Dataset:
    """Shuffled batches; each as long as the longest of its histories, which are of like length.

    A step of a recurrence takes as long for a history's padding as for its events, so what is not there is
    not computed. Which requests are neighbours changes with each epoch, and so do the negatives.

    Args:
      requests: see `scorers.data.make_requests`.
      num_requests: of a batch.
      cache_file: see `batches.make_shuffled_batches`.
      seed: of the shuffle and of the negatives.
      features: the ranker's.
      sampler: of the negatives; None for none.
    """
    if not features.history:
        return make_request_batches(requests, num_requests, cache_file, seed)
    batches = make_request_batches(
        requests, num_requests, cache_file, seed, length=lambda batch: count_events(batch, features)
    )
    batches = batches.map(lambda batch: trim(batch, features), num_parallel_calls=tf.data.AUTOTUNE)
    if sampler is not None:
        batches = tf.data.Dataset.zip(batches, make_seeds(seed + 1)).map(
            sampler.add, num_parallel_calls=tf.data.AUTOTUNE
        )
    return batches.prefetch(tf.data.AUTOTUNE)


def count_events(batch: Batch, features: RankerFeatures) -> tf.Tensor:
    """Events [R] of each request's history."""
    ids = batch[QUERY][features.history[0].name]
    return tf.math.count_nonzero(ids != PADDING, axis=1, dtype=tf.int32)


def trim(batch: Batch, features: RankerFeatures) -> Batch:
    """The batch without the columns that are padding in every history; one is left of empty histories."""
    length = tf.maximum(tf.reduce_max(count_events(batch, features)), 1)
    trimmed = {x.name: batch[QUERY][x.name][:, :length] for x in features.history}
    return {**batch, QUERY: {**batch[QUERY], **trimmed}}

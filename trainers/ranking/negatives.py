"""Items that were not clicked, for the extractor's auxiliary loss; drawn in the input pipeline."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from schemas import features as f
from trainers.layers.feature_embedding import PADDING
from trainers.preprocessing import EncodedFeature
from trainers.ranking.features import ITEM_TABLE, NEGATIVE_PREFIX, RankerFeatures
from trainers.scorers.data import QUERY, Batch, flatten


class NegativeSampler:
    """Draws items in proportion to their clicks in the training rows, none of which is in the user's history.

    The items are laid side by side, each as wide as it has clicks; those of a history are taken out, and a
    uniform place in what is left is an item: exact, without a second try.

    Args:
      items: [V, C] ids of each item in the columns of `names`, a row for each id of an item.
      clicks: [V] of each item; 0 for what is never drawn, the unknown item among them.
      names: the history's columns.
      key: place of the item's id among the columns.
      num_negatives: K.
    """

    def __init__(
        self, items: np.ndarray, clicks: np.ndarray, names: Sequence[str], key: int, num_negatives: int
    ):
        self._items = tf.constant(items, tf.int64)
        self._widths = tf.constant(clicks, tf.int64)
        self._ends = tf.constant(np.cumsum(clicks), tf.int64)
        self._names = tuple(names)
        self._key = key
        self._num_negatives = num_negatives

    def add(self, batch: Batch, seed: tf.Tensor) -> Batch:
        """The batch of `data.make_requests` with K items for each event, [R, T, K] in each column.

        Args:
          batch: requests.
          seed: int [2]; the same one gives the same items.
        """
        history = batch[QUERY][self._names[self._key]]
        drawn = self._draw(history, seed)
        ids = tf.gather(self._items, tf.maximum(drawn, 0))  # [R, T, K, C]
        ids = tf.where(drawn[..., tf.newaxis] == PADDING, tf.cast(PADDING, ids.dtype), ids)
        columns = {NEGATIVE_PREFIX + name: ids[..., c] for c, name in enumerate(self._names)}
        return {**batch, QUERY: {**batch[QUERY], **columns}}

    def _draw(self, history: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Items [R, T, K] of histories [R, T]; `PADDING` for a user who clicked all there are."""
        ids = tf.sort(tf.maximum(history, 0), axis=1)
        is_repeat = tf.concat([tf.zeros_like(ids[:, :1], tf.bool), ids[:, 1:] == ids[:, :-1]], axis=1)
        widths = tf.where(is_repeat, tf.zeros_like(ids), tf.gather(self._widths, ids))
        taken = tf.cumsum(widths, axis=1)
        # Where each gap begins, once those before it are closed.
        gaps = tf.gather(self._ends, ids) - taken
        left = self._ends[-1] - taken[:, -1:]  # [R, 1]
        shape = tf.shape(history) * [1, self._num_negatives]
        uniform = tf.random.stateless_uniform(shape, seed, dtype=tf.float64)
        place = tf.cast(uniform * tf.cast(left, tf.float64), tf.int64)
        place = tf.minimum(place, tf.maximum(left - 1, 0))
        before = tf.searchsorted(gaps, place, side="right")
        closed = tf.concat([tf.zeros_like(taken[:, :1]), taken], axis=1)
        place += tf.gather(closed, before, batch_dims=1)
        flat = tf.searchsorted(self._ends, tf.reshape(place, [-1]), side="right", out_type=tf.int64)
        drawn = tf.where(left > 0, tf.reshape(flat, shape), tf.cast(PADDING, tf.int64))
        return tf.reshape(drawn, [tf.shape(history)[0], tf.shape(history)[1], self._num_negatives])


def count_clicks(requests: tf.data.Dataset, features: RankerFeatures, num_negatives: int) -> NegativeSampler:
    """The sampler of what was clicked; one pass over the rows.

    Args:
      requests: of the training days, see `data.make_requests`.
      features: the ranker's.
      num_negatives: K.
    """
    key = [x.table for x in features.behaviour].index(ITEM_TABLE)
    size = features.behaviour[key].size
    items, clicks = np.zeros((size, len(features.target)), np.int64), np.zeros(size, np.int64)
    for batch in requests.map(flatten, num_parallel_calls=tf.data.AUTOTUNE).as_numpy_iterator():
        columns = _clicked_columns(batch, features.target)
        items[columns[:, key]] = columns
        clicks += np.bincount(columns[:, key], minlength=size)
    clicks[0] = 0
    return NegativeSampler(items, clicks, [x.name for x in features.behaviour], key, num_negatives)


def _clicked_columns(rows: Mapping[str, np.ndarray], target: Sequence[EncodedFeature]) -> np.ndarray:
    """[n, C] of the clicked rows."""
    return np.stack([rows[x.name] for x in target], axis=1)[rows[f.CLICKED] > 0]

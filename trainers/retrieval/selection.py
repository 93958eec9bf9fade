"""Which epoch's weights are kept: those that rank best on the evaluation split."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from trainers.preprocessing import USER_KEY
from trainers.retrieval.model import HISTORY_ITEM_INDEX, ITEM_INDEX, RetrievalModel
from trainers.weight_average import BestEpoch

RECALL_DEPTHS = (10, 100)
METRIC = "val_recall"
_SCORE_BATCH = 512


class Selection(BestEpoch):
    """Ranks on the evaluation split after each epoch, keeps the best weights, stops in time.

    The figure is the gate's as far as a trainer can know it: a mean over users, of recall at 10 and at
    100 in equal parts. Depth 100 alone keeps rising while the top of the list already gets worse. The
    catalogue is the training items and the items new in the evaluation split, so that a model which
    lets unknown items flood the top is not chosen; the row's history is left out.

    What is ranked and kept is the weights' moving average, see `weight_average.WeightAverage`.

    Args:
      positives: batches of the evaluation split's clicked rows, in the same order every time.
      catalogue: the training items' encoded features, row i for item index i + 1.
      patience: epochs without a better figure after which training stops.
      averaging: momentum of the average.
    """

    def __init__(
        self,
        positives: tf.data.Dataset,
        catalogue: Mapping[str, np.ndarray],
        patience: int,
        averaging: float,
    ):
        super().__init__(averaging, patience)
        self._positives = positives
        self._users, self._targets, self._catalogue = _collect_targets(positives, catalogue)

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Keras' hook."""
        super().on_train_begin(logs)
        model: RetrievalModel = self.model
        self._embed = tf.function(model.candidate_tower, autograph=False, reduce_retracing=True)

        @tf.function(autograph=False, reduce_retracing=True)
        def rank_rows(rows: Mapping[str, tf.Tensor], wanted: tf.Tensor, vectors: tf.Tensor) -> tf.Tensor:
            scores = tf.matmul(model.query_tower(rows), vectors, transpose_b=True)
            return _rank(scores, wanted, rows[HISTORY_ITEM_INDEX])

        self._rank_rows = rank_rows

    def _evaluate(self, logs: dict[str, float]) -> tuple[float, float]:
        logs[METRIC] = compute_user_recall(self._compute_ranks(), self._users)
        return logs["mean_loss"], logs[METRIC]

    def _compute_ranks(self) -> np.ndarray:
        """The rank [Q] of each row's target among the catalogue, from 0; ties count against it."""
        model: RetrievalModel = self.model
        items = tf.data.Dataset.from_tensor_slices(
            {x.name: self._catalogue[x.name] for x in model.candidate_features}
        )
        vectors = tf.concat([self._embed(batch) for batch in items.batch(4096)], axis=0)
        inputs = {HISTORY_ITEM_INDEX, *(x.name for x in model.query_features)}
        ranks, start = [np.zeros(0, np.int32)], 0
        for batch in self._positives.rebatch(_SCORE_BATCH):
            rows = {name: batch[name] for name in inputs}
            wanted = self._targets[start : start + len(batch[ITEM_INDEX])]
            ranks.append(self._rank_rows(rows, tf.constant(wanted), vectors).numpy())
            start += len(wanted)
        return np.concatenate(ranks)


def compute_user_recall(ranks: np.ndarray, users: np.ndarray) -> float:
    """The mean over users of recall at 10 and 100, in equal parts; 0 without rows.

    Args:
      ranks: [Q] from 0.
      users: [Q] whose row it is.
    """
    if not len(users):
        return 0.0
    _, user = np.unique(users, return_inverse=True)
    hits = np.mean([ranks < depth for depth in RECALL_DEPTHS], axis=0)
    return float(np.mean(np.bincount(user, hits) / np.bincount(user)))


def _rank(scores: tf.Tensor, targets: tf.Tensor, history: tf.Tensor) -> tf.Tensor:
    """How many items a target does not outscore; NaN outscores nothing.

    Args:
      scores: [B, N].
      targets: int64 [B] columns of the scores.
      history: int64 [B, T] item indices to leave out; not positive where there is none.
    """
    target_scores = tf.gather(scores, targets, axis=1, batch_dims=1)
    above = tf.cast(~(scores < target_scores[:, tf.newaxis]), tf.int32)
    seen = tf.where((history > 0) & (history - 1 != targets[:, tf.newaxis]))
    index = tf.stack([seen[:, 0], tf.gather_nd(history, seen) - 1], axis=1)
    above = tf.tensor_scatter_nd_update(above, index, tf.zeros(tf.shape(index)[0], tf.int32))
    return tf.reduce_sum(above, axis=1) - 1  # without itself


def _collect_targets(
    positives: tf.data.Dataset, catalogue: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Users [Q], the targets' rows [Q] of the catalogue, and the catalogue with the new items appended.

    A new item has no index; items of equal features are one.
    """
    num_known = len(catalogue[ITEM_INDEX])
    new_rows: dict[bytes, int] = {}
    new_items: list[dict[str, np.ndarray]] = []
    users, targets = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for batch in positives.as_numpy_iterator():
        rows = batch[ITEM_INDEX] - 1
        for i in np.flatnonzero(rows < 0):
            item = {name: batch[name][i] for name in catalogue}
            key = b"".join(values.tobytes() for values in item.values())
            if key not in new_rows:
                new_rows[key] = num_known + len(new_items)
                new_items.append(item)
            rows[i] = new_rows[key]
        users.append(batch[USER_KEY])
        targets.append(rows)
    extended = {
        name: np.concatenate([values, *([[item[name] for item in new_items]] if new_items else [])])
        for name, values in catalogue.items()
    }
    return np.concatenate(users), np.concatenate(targets), extended

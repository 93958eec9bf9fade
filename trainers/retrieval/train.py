"""Training of the two towers, in a fixed order: data, model, optimiser, loop."""

import dataclasses
import os
import tempfile
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from trainers.preprocessing import encoded_features
from trainers.retrieval import data
from trainers.retrieval.config import RetrievalConfig
from trainers.retrieval.model import HISTORY_ITEM_INDEX, ITEM_INDEX, RetrievalModel

SELECTION_DEPTH = 100
_SCORE_BATCH = 256


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """A trained model and how it got there.

    Attributes:
      model: with the weights of the best epoch.
      history: per epoch: loss, val_recall_100 and seconds.
      best_epoch: from 0, by recall on the evaluation split.
    """

    model: RetrievalModel
    history: dict[str, list[float]]
    best_epoch: int


def train_and_evaluate(
    config: RetrievalConfig,
    train_patterns: Sequence[str],
    eval_patterns: Sequence[str],
    transform_output: tft.TFTransformOutput,
    log_dir: str,
    warm_start_dir: str | None = None,
) -> TrainingResult:
    """Trains until the recall on the evaluation split stops rising, and keeps the best epoch.

    Args:
      config: the model's configuration.
      train_patterns: transformed training examples.
      eval_patterns: transformed evaluation examples; for the choice of the epoch alone.
      transform_output: the Transform graph they were made with.
      log_dir: for TensorBoard.
      warm_start_dir: an exported model to start from, see `warm_start.load_weights`.
    """
    tf.keras.utils.set_random_seed(config.seed)
    features = encoded_features(transform_output)
    spec = transform_output.transformed_feature_spec()
    train_rows = data.make_rows(train_patterns, spec, features)
    items = data.collect_items(train_rows, features)
    eval_positives = data.select_positives(data.make_rows(eval_patterns, spec, features))

    model = RetrievalModel(features, items.catalogue, items.positive_share, config)
    steps = max(items.num_positives // config.batch_size, 1) * config.max_epochs
    model.compile(
        optimizer=tf.keras.optimizers.AdamW(
            tf.keras.optimizers.schedules.CosineDecay(config.learning_rate, steps, alpha=0.1),
            weight_decay=config.weight_decay,
        )
    )
    with tempfile.TemporaryDirectory() as cache:
        batches = data.make_training_batches(
            data.select_positives(train_rows), config.batch_size, os.path.join(cache, "positives"), config.seed
        )
        if warm_start_dir:
            from trainers.retrieval.warm_start import load_weights

            model.compute_loss(next(iter(batches.take(1))))  # creates the variables
            load_weights(model, warm_start_dir, transform_output)
        selection = _Selection(eval_positives.cache(os.path.join(cache, "eval")), items.catalogue, config)
        history = model.fit(
            batches,
            epochs=config.max_epochs,
            verbose=0,
            callbacks=[selection, tf.keras.callbacks.TensorBoard(log_dir, write_graph=False)],
        )
    model.set_weights(selection.best_weights)
    return TrainingResult(model, history.history, selection.best_epoch)


class _Selection(tf.keras.callbacks.Callback):
    """Measures recall on the evaluation split after each epoch, keeps the best weights, stops in time.

    The ranking is exact over the training items, without the row's history; a target that training
    never saw is a miss.
    """

    def __init__(self, positives: tf.data.Dataset, catalogue: dict[str, np.ndarray], config: RetrievalConfig):
        super().__init__()
        self._positives = positives
        self._catalogue = tf.data.Dataset.from_tensor_slices(catalogue).batch(4096)
        self._patience = config.patience_epochs
        self.best_recall = -1.0
        self.best_epoch = 0
        self.best_weights: list[np.ndarray] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        model: RetrievalModel = self.model
        vectors = tf.concat([model.candidate_tower(batch) for batch in self._catalogue], axis=0)
        hits = total = 0
        for batch in self._positives.unbatch().batch(_SCORE_BATCH):
            ranks = _rank(model.query_tower(batch), vectors, batch[ITEM_INDEX], batch[HISTORY_ITEM_INDEX])
            hits += int(tf.reduce_sum(tf.cast(ranks < SELECTION_DEPTH, tf.int32)))
            total += int(tf.size(ranks))
        recall = hits / max(total, 1)
        if logs is not None:
            logs["val_recall_100"] = recall
        if recall > self.best_recall:
            self.best_recall, self.best_epoch = recall, epoch
            self.best_weights = model.get_weights()
        self.model.stop_training = epoch - self.best_epoch >= self._patience


@tf.function(reduce_retracing=True)
def _rank(queries: tf.Tensor, items: tf.Tensor, targets: tf.Tensor, history: tf.Tensor) -> tf.Tensor:
    """How many items outrank each target; beyond every depth for an unknown target.

    Args:
      queries: [B, D].
      items: [N, D], row i for item index i + 1.
      targets: int64 [B] item indices.
      history: int64 [B, T] item indices to leave out; not positive where there is none.
    """
    scores = tf.matmul(queries, items, transpose_b=True)  # [B, N]
    target_scores = tf.gather(scores, tf.maximum(targets - 1, 0), axis=1, batch_dims=1)
    above = tf.cast(scores > target_scores[:, tf.newaxis], tf.int32)
    seen = tf.where((history > 0) & (history != targets[:, tf.newaxis]))
    seen_items = tf.gather_nd(history, seen) - 1
    index = tf.stack([seen[:, 0], seen_items], axis=1)
    above = tf.tensor_scatter_nd_update(above, index, tf.zeros(tf.shape(index)[0], tf.int32))
    return tf.where(targets > 0, tf.reduce_sum(above, axis=1), tf.shape(items)[0])

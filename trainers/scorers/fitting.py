"""The loop that every scorer is trained by: optimiser, batches, choice of the epoch."""

import dataclasses
import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from trainers.scorers import data
from trainers.scorers.config import FittingConfig
from trainers.scorers.data import TrainingData
from trainers.scorers.learning import ScorerTraining
from trainers.scorers.selection import Measure, Selection


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """A trained scorer and how it got there.

    Attributes:
      scorer: with the weights of the best epoch.
      history: per epoch: loss, `selection.METRIC` and `selection.AUC`.
      best_epoch: from 0.
      epoch_seconds: of the processor, per epoch of training; the first reads rows and traces the graph too.
    """

    scorer: Any
    history: dict[str, list[float]]
    best_epoch: int
    epoch_seconds: list[float]


def find_strategy() -> tf.distribute.Strategy:
    """A replica on each GPU, where there are several; otherwise the one device that there is."""
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def count_steps(config: FittingConfig, training: TrainingData) -> int:
    """Steps until `max_epochs`."""
    return -(-training.num_requests // _count_requests(config, training)) * config.max_epochs


def _count_requests(config: FittingConfig, training: TrainingData) -> int:
    """Requests of a batch."""
    return max(round(config.batch_size * training.num_requests / training.num_rows), 1)


def fit(
    model: ScorerTraining,
    config: FittingConfig,
    training: TrainingData,
    log_dir: str | None,
    make_batches: Callable[[tf.data.Dataset, int, str, int], tf.data.Dataset] = data.make_training_batches,
) -> TrainingResult:
    """Trains a model and gives its scorer the weights of the best epoch.

    Args:
      model: not compiled yet.
      config: batches, optimiser and when to stop.
      training: the rows.
      log_dir: for TensorBoard; None logs nothing.
      make_batches: of requests, how many, a file to keep them in and a seed; see `make_training_batches`.
    """
    steps = count_steps(config, training)
    with tempfile.TemporaryDirectory() as cache:
        with model.distribute_strategy.scope():
            model.compile(
                optimizer=tf.keras.optimizers.AdamW(
                    tf.keras.optimizers.schedules.CosineDecay(config.learning_rate, steps, alpha=0.1),
                    weight_decay=config.weight_decay,
                )
            )
            # Creates the variables; not from the cached batches, whose file a partial pass leaves locked.
            kept = os.path.join(cache, "first")
            first = next(iter(make_batches(training.train.take(1), 64, kept, 0)))
            model.compute_batch_loss(data.flatten(first))
            model.optimizer.build(model.trainable_variables)  # a step that makes variables is traced twice
        batches = make_batches(
            training.train, _count_requests(config, training), os.path.join(cache, "train"), config.seed
        )
        selection = Selection(
            Measure(model),
            training.evaluation.cache(os.path.join(cache, "eval")),
            config.patience_epochs,
            config.weight_averaging,
        )
        logs = [tf.keras.callbacks.TensorBoard(log_dir, write_graph=False)] if log_dir else []
        # The timer comes first: what the others do after an epoch is no training.
        timer = _EpochTimer()
        history = model.fit(batches, epochs=config.max_epochs, verbose=0, callbacks=[timer, selection, *logs])
    model.set_weights(selection.best_weights)
    return TrainingResult(model.scorer, history.history, selection.best_epoch, timer.seconds)


class _EpochTimer(tf.keras.callbacks.Callback):
    """Measures each epoch's training, in seconds of the processor: other work on the machine adds little."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Keras' hook."""
        self._start = time.process_time()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Keras' hook."""
        self.seconds.append(time.process_time() - self._start)

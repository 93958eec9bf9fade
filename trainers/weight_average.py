"""The moving average of a model's weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import tensorflow as tf


class WeightAverage:
    """Averages the weights over the steps (Polyak & Juditsky 1992): without the noise of the last batches.

    Args:
      model: compiled, its variables created.
      momentum: of the average; less in the first steps (`tf.train.ExponentialMovingAverage` with its
        `num_updates`), so that the random start is soon forgotten. 0 is the last step's weights.
    """

    def __init__(self, model: tf.keras.Model, momentum: float):
        self._variables = model.trainable_variables
        self._average = tf.train.ExponentialMovingAverage(momentum, model.optimizer.iterations)
        self._average.apply(self._variables)  # makes the averages, outside of the graph

    @tf.function(autograph=False)
    def update(self) -> None:
        """Takes the present weights into the average; to be called after each step."""
        self._average.apply(self._variables)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averages inside the block, and its own weights again after it."""
        own = [variable.numpy() for variable in self._variables]
        for variable in self._variables:
            variable.assign(self._average.average(variable))
        try:
            yield
        finally:
            for variable, value in zip(self._variables, own, strict=True):
                variable.assign(value)


class DivergenceError(ValueError):
    """A training whose loss is no longer finite; the message says when, and what to lower."""


class Averaging(tf.keras.callbacks.Callback):
    """Keeps the moving average of the weights after the newest epoch, see `WeightAverage`.

    Args:
      averaging: momentum of the average.
    """

    def __init__(self, averaging: float):
        super().__init__()
        self._averaging = averaging
        self.best_epoch = 0
        self.best_weights: list[np.ndarray] = []

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Keras' hook."""
        self._average = WeightAverage(self.model, self._averaging)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Keras' hook."""
        self._average.update()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Keras' hook."""
        with self._average.applied():
            self._look(epoch, {} if logs is None else logs)

    def _look(self, epoch: int, logs: dict[str, float]) -> None:
        """Looks at the averaged weights, which the model has for the time of the call."""
        self.best_epoch, self.best_weights = epoch, self.model.get_weights()


class BestEpoch(Averaging):
    """Keeps the average after the best epoch instead, and stops training in time.

    Args:
      averaging: momentum of the average.
      patience: epochs without a better figure after which training stops.
    """

    def __init__(self, averaging: float, patience: int):
        super().__init__(averaging)
        self._patience = patience
        self._best = -np.inf

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Keras' hook; raises DivergenceError if the loss is not finite."""
        super().on_epoch_end(epoch, logs)
        self.model.stop_training = epoch - self.best_epoch >= self._patience

    def _look(self, epoch: int, logs: dict[str, float]) -> None:
        loss, figure = self._evaluate(logs)
        if not np.isfinite(loss):
            raise DivergenceError(
                f"training diverged: in epoch {epoch + 1} the loss is {loss}. Lower this model's "
                "learning_rate; if that does not help, look for numbers in the data that are not finite."
            )
        if figure > self._best:
            self._best = figure
            super()._look(epoch, logs)

    def _evaluate(self, logs: dict[str, float]) -> tuple[float, float]:
        """A loss that is finite unless training diverged, and a figure of which the largest is the best.

        Args:
          logs: of the epoch; what is measured is added.
        """
        raise NotImplementedError

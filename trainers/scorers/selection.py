"""Which epoch's weights are kept: those of the least log loss on the evaluation split."""

from typing import Any

import tensorflow as tf

from trainers.scorers.data import flatten
from trainers.scorers.learning import make_labels
from trainers.weight_average import BestEpoch

METRIC = "val_loss"
AUC = "val_auc"


class Selection(BestEpoch):
    """Measures the log loss on the evaluation split after each epoch, keeps the best weights, stops in time.

    The loss is the labels' alone, whatever the model learns from besides. What is measured and kept is the
    weights' moving average, see `weight_average.WeightAverage`.

    Args:
      measure: of the model that is trained.
      requests: batches of the evaluation split, see `data.make_requests`.
      patience: epochs without a better figure after which training stops.
      averaging: momentum of the average.
    """

    def __init__(self, measure: "Measure", requests: tf.data.Dataset, patience: int, averaging: float):
        super().__init__(averaging, patience)
        self._measure = measure
        self._requests = requests

    def _evaluate(self, logs: dict[str, float]) -> tuple[float, float]:
        logs[METRIC], logs[AUC] = self._measure(self._requests)
        return logs[METRIC], -logs[METRIC]


class Measure:
    """The log loss, summed over tasks, and the AUC of the click (by 1,000 thresholds), dropout off.

    Args:
      model: see `learning.ScorerTraining`; traced once, however often it is measured. What is summed up is
        on one device: to be made outside of a distribution strategy's scope.
    """

    def __init__(self, model: Any):
        self._auc = tf.keras.metrics.AUC(1000, from_logits=True)
        self._losses = [tf.keras.metrics.Mean() for _ in model.scorer.config.tasks]

        @tf.function(reduce_retracing=True, autograph=False)
        def update(batch: Any) -> None:
            inputs = flatten(batch)
            logits = model(inputs, training=False).logits
            labels, mask = make_labels(inputs, len(self._losses))
            for k, loss in enumerate(self._losses):  # the mean of a task's own labels, whatever a batch holds
                entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels[:, k], logits=logits[:, k])
                loss.update_state(entropy, mask[:, k])
            self._auc.update_state(labels[:, 0], logits[:, 0])

        self._update = update

    def __call__(self, requests: tf.data.Dataset) -> tuple[float, float]:
        """Loss and AUC of requests, see `data.make_requests`."""
        for metric in (self._auc, *self._losses):
            metric.reset_state()
        for batch in requests:
            self._update(batch)
        return sum(float(loss.result()) for loss in self._losses), float(self._auc.result())

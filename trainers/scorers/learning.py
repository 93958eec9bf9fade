"""One training loop for every scorer: alone, from a frozen teacher, or together with one."""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from schemas import features as f
from trainers.losses.distillation import Signals, compute_distillation_weight, compute_hard_loss
from trainers.losses.distillation_config import DistillationConfig, build_losses
from trainers.scorers.data import REQUEST, TEACHER_HIDDEN, TEACHER_LOGITS, Batch, flatten
from trainers.scorers.scores import Scores


class ScorerTraining(tf.keras.Model):
    """A scorer under the labels' loss alone: the control, or a teacher that is trained first.

    Args:
      scorer: what is trained.
    """

    def __init__(self, scorer: Any):
        super().__init__()
        self.scorer = scorer
        self._mean_loss = tf.keras.metrics.Mean("loss")

    @property
    def metrics(self) -> list[tf.keras.metrics.Metric]:
        """Keras' hook: what is reset after each epoch."""
        return [self._mean_loss]

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> Scores:
        """Scores rows as the scorer does."""
        return self.scorer(inputs, training=training)

    @tf.autograph.experimental.do_not_convert  # there is nothing to convert, and looking takes half a minute
    def train_step(self, batch: Batch) -> dict[str, tf.Tensor]:
        """Keras' hook: one step on a batch of `data.make_requests`."""
        inputs = flatten(batch)
        with tf.GradientTape() as tape:
            loss = self.compute_batch_loss(inputs)
            # Keras adds the gradients of replicas up: each counts as its rows do.
            shared = loss * _find_share(tf.shape(inputs[REQUEST])[0])
        variables = self.trainable_variables
        gradients = tape.gradient(shared, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        self._mean_loss.update_state(loss)
        return {"loss": self._mean_loss.result()}

    def compute_batch_loss(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """The mean loss over a batch's rows, dropout on."""
        logits = self.scorer(inputs, training=True).logits
        return _compute_label_loss(inputs, logits) + sum(self.scorer.losses)


class Distillation(ScorerTraining):
    """A student under the labels' loss and a teacher's: (1 - λ) L_s + λ Σ w L_d, joint + L_t (PFD, eq. 5-7).

    Args:
      student: what is trained.
      config: forms and λ.
      soft_on_every_row: whether the teacher's logit of a conversion counts on rows without a click.
      warm_up_steps: steps in which λ is 0.
      teacher: trained along; None where the batches hold the scores of a frozen one.
    """

    def __init__(
        self,
        student: Any,
        config: DistillationConfig,
        *,
        soft_on_every_row: bool,
        warm_up_steps: int = 0,
        teacher: Any = None,
    ):
        super().__init__(student)
        self.teacher = teacher
        self._weight = config.weight
        self._soft_on_every_row = soft_on_every_row
        self._warm_up_steps = warm_up_steps
        self._forms = build_losses(config.losses)
        self._shares = self._find_shares(config, len(student.config.tasks))

    def _find_shares(self, config: DistillationConfig, num_tasks: int) -> Sequence[float]:
        """[K] the share of λ that each task's labels give up: nothing where no form teaches the task."""
        for loss in config.losses:
            if loss.soft_weights is not None:
                return loss.soft_weights
        others = float(any(form.every_task for _, form in self._forms))
        return (1.0, *[others] * (num_tasks - 1))

    def compute_batch_loss(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """The mean loss over a batch's rows, dropout on."""
        scores = self.scorer(inputs, training=True)
        num_tasks = scores.logits.shape[1]
        labels, mask = make_labels(inputs, num_tasks)
        if self.teacher is None:
            taught = Scores(inputs[TEACHER_LOGITS], inputs[TEACHER_HIDDEN])
        else:
            taught = self.teacher(inputs, training=True)
        signals = Signals(
            student_logits=scores.logits,
            teacher_logits=taught.logits[:, :num_tasks],
            soft_mask=tf.ones_like(mask) if self._soft_on_every_row else mask,
            request=inputs[REQUEST],
            student_hidden=scores.hidden,
            teacher_hidden=taught.hidden,
        )
        soft = tf.add_n([share * loss(signals) for share, loss in self._forms])
        weight = compute_distillation_weight(self.optimizer.iterations, self._warm_up_steps, self._weight)
        hard = compute_hard_loss(
            scores.logits, labels, mask, [1.0 - weight * share for share in self._shares]
        )
        loss = hard + weight * soft + sum(self.scorer.losses)
        if self.teacher is None:
            return loss
        return loss + _compute_label_loss(inputs, taught.logits) + sum(self.teacher.losses)


def _compute_label_loss(inputs: Mapping[str, tf.Tensor], logits: tf.Tensor) -> tf.Tensor:
    num_tasks = logits.shape[1]
    return compute_hard_loss(logits, *make_labels(inputs, num_tasks), [1.0] * num_tasks)


def _find_share(num_rows: tf.Tensor) -> tf.Tensor | float:
    """This replica's share of a batch's rows; 1 where there is one replica."""
    replica = tf.distribute.get_replica_context()
    if replica.num_replicas_in_sync == 1:
        return 1.0
    own = tf.cast(num_rows, tf.float32)
    return own / replica.all_reduce(tf.distribute.ReduceOp.SUM, own)


def make_labels(inputs: Mapping[str, Any], num_tasks: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Labels and where they count, float32 [N, K] each: a conversion does on clicked rows alone."""
    clicked, converted = inputs[f.CLICKED], inputs[f.CONVERTED]
    labels = tf.stack([clicked, converted], axis=1)[:, :num_tasks]
    mask = tf.stack([tf.ones_like(clicked), clicked], axis=1)[:, :num_tasks]
    return labels, mask

"""What a student learns from a teacher's logits, and the signals that every form of distillation reads.

The forms are layers that map `Signals` to a scalar, so that any sum of them is a loss: those on single
logits are here, those on the order of a request's rows in `distillation_ranking`, those on hidden vectors
in `distillation_vectors`; `distillation_config` builds them by name. None of them reaches the teacher: it
would co-adapt with the student (PFD, Xu et al., KDD 2020, arXiv 1907.05171).

A later stage's ranker as the teacher needs no form of its own: the pre-ranker learns the ranker's logits
(`LogitsDistillation`), its order (one of the ranking forms) or its vectors (`ContrastiveAlignment`), over
whatever rows the ranker has scored. Plain model distillation is a teacher that sees the student's features.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Signals:
    """One batch of N rows and K tasks, task 0 the click, task 1 the conversion; all but `request` float32.

    Where the mask is 0, what it masks may hold anything, NaN included.

    Attributes:
      student_logits: [N, K].
      teacher_logits: [N, K].
      soft_mask: [N, K] 1 where the teacher's logit counts, else 0.
      request: int [N], equal for the rows of one request.
      student_hidden: [N, Ds], for the forms on vectors.
      teacher_hidden: [N, Dt], likewise; counts where any of the row's logits does.
    """

    student_logits: tf.Tensor
    teacher_logits: tf.Tensor
    soft_mask: tf.Tensor
    request: tf.Tensor
    student_hidden: tf.Tensor | None = None
    teacher_hidden: tf.Tensor | None = None


class DistillationForm(tf.keras.layers.Layer):
    """Maps `Signals` to a scalar loss.

    Attributes:
      every_task: whether it teaches each task's logit; the others teach the click's alone, or vectors.
    """

    every_task = False


class LogitsDistillation(DistillationForm):
    """The teacher's probabilities as soft labels, softened by a temperature T (Hinton et al. 2015).

    L = Σ_k mean_i T² · KL(σ(t_ik / T) ‖ σ(s_ik / T)), t the teacher's logits, s the student's
      = Σ_k mean_i T² · [BCE(σ(t/T), s/T) - H(σ(t/T))]

    (arXiv 1503.02531, section 2, for two classes.) The entropy H is a constant that makes 0 the minimum,
    reached at s = t and, in float32, up to T² times its rounding. ∂L/∂s = T (σ(s/T) - σ(t/T)) / rows: of
    the same size whatever T is, and (s - t) / 4 for a large one. T = 1 is PFD's own loss.

    Args:
      temperature: T > 0, divides logits.
    """

    every_task = True

    def __init__(self, temperature: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.temperature = temperature

    def call(self, signals: Signals) -> tf.Tensor:
        """Returns the scalar loss; 0 where no logit of the teacher's counts."""
        return tf.reduce_sum(self.temperature**2 * _compute_kl(signals, self.temperature))

    def get_config(self) -> dict[str, Any]:
        """Keras' hook."""
        return {**super().get_config(), "temperature": self.temperature}


class MultiTargetKL(DistillationForm):
    """The soft part of distilling several tasks at once, each with its own weight.

    L = Σ_k λ_k · mean_i KL(σ(t_ik) ‖ σ(s_ik)); the hard part, Σ_k (1 - λ_k) · mean_i BCE(y_ik, s_ik), is
    `compute_hard_loss`. A conversion has labels on clicked rows alone, and soft labels wherever the
    teacher's logit counts. A multi-task teacher for a tower model: DMTL (Zhao et al. 2021, arXiv 2102.07142).

    Args:
      soft_weights: λ_k, one in [0, 1] per task.
    """

    every_task = True

    def __init__(self, soft_weights: Sequence[float], **kwargs: Any):
        super().__init__(**kwargs)
        self.soft_weights = tuple(soft_weights)

    def call(self, signals: Signals) -> tf.Tensor:
        """Returns the scalar loss; raises ValueError unless there is one weight per task."""
        _check_one_per_task(self.soft_weights, signals.student_logits, "soft_weights")
        return tf.reduce_sum(tf.constant(self.soft_weights) * _compute_kl(signals, 1.0))

    def get_config(self) -> dict[str, Any]:
        """Keras' hook."""
        return {**super().get_config(), "soft_weights": self.soft_weights}


class RocketLaunching(DistillationForm):
    """The hint loss on logits (Zhou et al., "Rocket Launching", AAAI 2018, arXiv 1708.04106).

    L = Σ_k mean_i (s_ik - t_ik)², with the paper's gradient block: t does not move. Both networks learn
    from the labels besides, jointly and with shared lower layers, which is the training loop's part.
    """

    every_task = True

    def call(self, signals: Signals) -> tf.Tensor:
        """Returns the scalar loss; 0 where no logit of the teacher's counts."""
        error = signals.student_logits - _soft_targets(signals)
        return tf.reduce_sum(_masked_mean(error**2, signals.soft_mask))


def compute_hard_loss(
    logits: tf.Tensor, labels: tf.Tensor, task_mask: tf.Tensor, weights: Sequence[float | tf.Tensor]
) -> tf.Tensor:
    """Cross-entropy with the labels: Σ_k w_k · mean_i BCE(y_ik, z_ik), each mean over its task's labels.

    Args:
      logits: [N, K].
      labels: [N, K], 0 or 1; anything where there is none.
      task_mask: [N, K] 1 where there is a label, else 0.
      weights: w_k, numbers or scalars, one per task.

    Returns:
      A scalar; a task without any label adds 0.

    Raises:
      ValueError: unless there is one weight per task.
    """
    _check_one_per_task(weights, logits, "weights")
    labels = tf.where(task_mask > 0, labels, 0.0)
    losses = _masked_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits), task_mask)
    return tf.reduce_sum(tf.convert_to_tensor(weights, tf.float32) * losses)


def compute_distillation_weight(step: tf.Tensor | int, warm_up_steps: int, weight: float) -> tf.Tensor:
    """λ at a step: 0 for the first `warm_up_steps`, in which the student learns from labels only, then λ.

    In joint training the teacher's first logits are noise (PFD, arXiv 1907.05171).

    Args:
      step: steps done before this one; 0 is the first.
      warm_up_steps: how many steps go without the teacher.
      weight: λ.

    Returns:
      A float32 scalar.
    """
    return tf.where(tf.less(step, warm_up_steps), 0.0, tf.constant(weight, tf.float32))


def _compute_kl(signals: Signals, temperature: float) -> tf.Tensor:
    """[K] the tasks' mean KL divergence between what teacher and student say at a temperature."""
    teacher = _soft_targets(signals) / temperature
    student = signals.student_logits / temperature
    probability = tf.sigmoid(teacher)
    cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=probability, logits=student)
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=probability, logits=teacher)
    return _masked_mean(cross_entropy - entropy, signals.soft_mask)


def _soft_targets(signals: Signals) -> tf.Tensor:
    """[N, K] the teacher's logits as constants, 0 where they do not count."""
    return tf.stop_gradient(tf.where(signals.soft_mask > 0, signals.teacher_logits, 0.0))


def _masked_mean(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """[K] means of the columns of [N, K]; 0 for a column without a row."""
    return tf.math.divide_no_nan(tf.reduce_sum(values * mask, axis=0), tf.reduce_sum(mask, axis=0))


def _check_one_per_task(weights: Sequence[Any], logits: tf.Tensor, name: str) -> None:
    if len(weights) != logits.shape[1]:
        raise ValueError(
            f"{name}: expected one per task, {logits.shape[1]} in all, got {len(weights)}: {list(weights)}"
        )

"""What a student learns from a teacher's hidden vectors."""

from typing import Any

import tensorflow as tf

from trainers.losses.distillation import DistillationForm, Signals

_MAX_CONTRASTED_ROWS = 1024  # the similarities take its square


class HiddenDistillation(DistillationForm):
    """The teacher's hidden layer as a target (FitNets, Romero et al., ICLR 2015, arXiv 1412.6550, eq. 3).

    L = mean_i ‖P·h_s,i - h_t,i‖² / Dt, P a learned linear map where the widths differ, else the identity.
    P is a weight of this layer: made by the first call, and trained with the student.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self._projection = _Projection(name="projection")

    def call(self, signals: Signals) -> tf.Tensor:
        """Returns the scalar loss; raises ValueError without hidden vectors."""
        student, teacher = _read_hidden(signals)
        error = self._projection([student, teacher]) - teacher  # [n, Dt]
        return tf.math.divide_no_nan(tf.reduce_sum(error**2), tf.cast(tf.size(error), tf.float32))


class ContrastiveAlignment(DistillationForm):
    """A row's vector of the student's nearer to its own of the teacher's than to other rows' (InfoNCE).

    L = mean_i -log( exp(a_i·b_i / T) / Σ_j exp(a_i·b_j / T) ), a = P·h_s and b = h_t of unit length, j over
    the batch's rows (van den Oord et al. 2018, arXiv 1807.03748, eq. 4; between student and teacher: Tian
    et al., ICLR 2020, arXiv 1910.10699). P as in `HiddenDistillation`. How Meituan aligns its pre-ranker
    with its ranker. The first 1,024 rows stand for a larger batch.

    Args:
      temperature: T > 0, divides cosines.
    """

    def __init__(self, temperature: float = 0.1, **kwargs: Any):
        super().__init__(**kwargs)
        self.temperature = temperature
        self._projection = _Projection(name="projection")

    def call(self, signals: Signals) -> tf.Tensor:
        """Returns the scalar loss; raises ValueError without hidden vectors."""
        student, teacher = _read_hidden(signals)
        student, teacher = student[:_MAX_CONTRASTED_ROWS], teacher[:_MAX_CONTRASTED_ROWS]
        projected = tf.math.l2_normalize(self._projection([student, teacher]), axis=1)
        logits = tf.matmul(projected, tf.math.l2_normalize(teacher, axis=1), transpose_b=True)
        logits = logits / self.temperature
        # TensorFlow's sparse cross-entropy fails on a batch without rows.
        losses = tf.reduce_logsumexp(logits, axis=1) - tf.linalg.diag_part(logits)
        return tf.math.divide_no_nan(tf.reduce_sum(losses), tf.cast(tf.size(losses), tf.float32))

    def get_config(self) -> dict[str, Any]:
        """Keras' hook."""
        return {**super().get_config(), "temperature": self.temperature}


class _Projection(tf.keras.layers.Layer):
    """Student vectors [n, Ds] and teacher vectors [n, Dt] to student vectors [n, Dt]."""

    def build(self, input_shape: Any) -> None:
        """Keras' hook."""
        student_dim, teacher_dim = (shape[-1] for shape in input_shape)
        self._kernel = None
        if student_dim != teacher_dim:
            self._kernel = self.add_weight(name="kernel", shape=(student_dim, teacher_dim))
        super().build(input_shape)

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        """Maps the first of the two."""
        student, _ = inputs
        return student if self._kernel is None else tf.matmul(student, self._kernel)


def _read_hidden(signals: Signals) -> tuple[tf.Tensor, tf.Tensor]:
    """[n, Ds] and [n, Dt] of the rows of which the teacher says anything."""
    if signals.student_hidden is None or signals.teacher_hidden is None:
        raise ValueError("student_hidden and teacher_hidden are needed by the forms hidden and contrastive")
    kept = tf.reduce_any(signals.soft_mask > 0, axis=1)
    teacher = tf.stop_gradient(tf.boolean_mask(signals.teacher_hidden, kept))
    return tf.boolean_mask(signals.student_hidden, kept), teacher

"""What a student learns from the order in which a teacher puts the rows of one request (task 0 alone).

A form works on single rows, on pairs or on the whole list. A request in which there is nothing to order
adds nothing. Pairs are listed request by request, so time and memory grow with Σ (rows of a request)²,
neither with the square of the batch nor with its longest request.
"""

import dataclasses
from typing import Any

import tensorflow as tf

from trainers.losses.distillation import DistillationForm, Signals


@dataclasses.dataclass(frozen=True)
class _Ranking:
    """The n rows that the teacher orders, of R requests, counted from 0."""

    student: tf.Tensor  # [n] logits
    teacher: tf.Tensor  # [n] logits, constants
    request: tf.Tensor  # int32 [n]
    request_size: tf.Tensor  # int32 [R] rows
    num_requests: tf.Tensor

    def sum_by_request(self, values: tf.Tensor) -> tf.Tensor:
        """[n] values to [R] sums."""
        return tf.math.unsorted_segment_sum(values, self.request, self.num_requests)


class PointwiseRanking(DistillationForm):
    """The teacher's best `top_k` rows of a request as positives, the others as negatives.

    L = mean_i w_i · BCE(1(rank_i < top_k), s_i), rank_i the rows of the request that the teacher puts
    strictly above row i, so that equals share a rank. Negatives have w = 1. Positives have
    w ∝ 1 / log2(rank + 2), as in DCG, and 1 on average over the request: the weights tell positives apart
    without shifting the balance against negatives. Requests that have no negatives are left out.

    After Ranking Distillation (Tang and Wang, KDD 2018, arXiv 1809.07428), whose weights are exponential
    and whose negatives are the labels'.

    Args:
      top_k: rows of a request that are positives, more in a tie.
    """

    def __init__(self, top_k: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.top_k = top_k

    def call(self, signals: Signals) -> tf.Tensor:
        """Returns the scalar loss."""
        rows = _read_ranking(signals)
        left, right = _make_pairs(rows)
        above = tf.cast(tf.gather(rows.teacher, right) > tf.gather(rows.teacher, left), tf.float32)
        rank = tf.math.unsorted_segment_sum(above, left, tf.size(rows.teacher))
        positive = tf.cast(rank < self.top_k, tf.float32)
        num_positive = rows.sum_by_request(positive)
        discount = positive * tf.math.log(2.0) / tf.math.log(rank + 2.0)
        scale = num_positive / rows.sum_by_request(discount)  # every request has a row of rank 0
        weight = discount * tf.gather(scale, rows.request) + (1.0 - positive)
        has_negatives = num_positive < tf.cast(rows.request_size, tf.float32)
        counts = tf.cast(tf.gather(has_negatives, rows.request), tf.float32)
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=positive, logits=rows.student)
        return tf.math.divide_no_nan(tf.reduce_sum(counts * weight * losses), tf.reduce_sum(counts))

    def get_config(self) -> dict[str, Any]:
        """Keras' hook."""
        return {**super().get_config(), "top_k": self.top_k}


class PairwiseRanking(DistillationForm):
    """BPR on the pairs that the teacher orders (Rendle et al., UAI 2009, arXiv 1205.2618, section 4).

    L = mean of -log σ(s_i - s_j) over all i, j of one request with t_i > t_j; equals make no pair.
    """

    def call(self, signals: Signals) -> tf.Tensor:
        """Returns the scalar loss."""
        rows = _read_ranking(signals)
        left, right = _make_pairs(rows)
        ordered = tf.cast(tf.gather(rows.teacher, left) > tf.gather(rows.teacher, right), tf.float32)
        losses = tf.nn.softplus(tf.gather(rows.student, right) - tf.gather(rows.student, left))
        return tf.math.divide_no_nan(tf.reduce_sum(ordered * losses), tf.reduce_sum(ordered))


class ListwiseRanking(DistillationForm):
    """How likely each row of a request is its best one, as the teacher sees it.

    L = mean over requests of T² · KL(softmax_i(t_i / T) ‖ softmax_i(s_i / T)), the mean over those of two
    rows or more. T = 1 is ListNet (Cao et al., ICML 2007) less the entropy of its target; T² keeps the
    gradient's size (Hinton et al. 2015). The minimum, 0, is at s = t plus anything that is the same for
    the whole request.

    Args:
      temperature: T > 0, divides logits.
    """

    def __init__(self, temperature: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.temperature = temperature

    def call(self, signals: Signals) -> tf.Tensor:
        """Returns the scalar loss."""
        rows = _read_ranking(signals)
        teacher = _log_softmax(rows, rows.teacher / self.temperature)
        student = _log_softmax(rows, rows.student / self.temperature)
        # A request of one row has log-probability 0 on both sides.
        total = self.temperature**2 * tf.reduce_sum(tf.exp(teacher) * (teacher - student))
        return tf.math.divide_no_nan(total, tf.reduce_sum(tf.cast(rows.request_size > 1, tf.float32)))

    def get_config(self) -> dict[str, Any]:
        """Keras' hook."""
        return {**super().get_config(), "temperature": self.temperature}


def _read_ranking(signals: Signals) -> _Ranking:
    """Task 0 of the rows whose soft label counts."""
    kept = signals.soft_mask[:, 0] > 0
    _, request, request_size = tf.unique_with_counts(tf.boolean_mask(signals.request, kept))
    return _Ranking(
        student=tf.boolean_mask(signals.student_logits[:, 0], kept),
        teacher=tf.stop_gradient(tf.boolean_mask(signals.teacher_logits[:, 0], kept)),
        request=request,
        request_size=request_size,
        num_requests=tf.size(request_size),
    )


def _make_pairs(rows: _Ranking) -> tuple[tf.Tensor, tf.Tensor]:
    """All ordered pairs of rows of one request, a row with itself included.

    Returns:
      int32 [P] and int32 [P], indices of rows; P = Σ (rows of a request)².
    """
    by_request = tf.argsort(rows.request, stable=True)
    first_row = tf.cumsum(rows.request_size, exclusive=True)  # [R] in `by_request`
    num_partners = tf.gather(rows.request_size, rows.request)
    first_pair = tf.cumsum(num_partners, exclusive=True)  # [n]
    left = tf.repeat(tf.range(tf.size(rows.request)), num_partners)
    offset = tf.gather(first_row, rows.request) - first_pair  # [n] from a pair to its partner
    return left, tf.gather(by_request, tf.range(tf.size(left)) + tf.gather(offset, left))


def _log_softmax(rows: _Ranking, logits: tf.Tensor) -> tf.Tensor:
    """[n] log-probabilities of the rows within their request."""
    largest = tf.math.unsorted_segment_max(tf.stop_gradient(logits), rows.request, rows.num_requests)
    shifted = logits - tf.gather(largest, rows.request)
    return shifted - tf.gather(tf.math.log(rows.sum_by_request(tf.exp(shifted))), rows.request)

"""Exact AUC and GAUC, and the paired bootstrap over users of AUC's differences; NumPy alone.

AUC is the chance that a clicked row scores above one that was not, a tie counting a half (Mann & Whitney
1947). GAUC is the mean over users of their own AUC, weighted by their rows (DIN, arXiv 1706.06978, equation
7); a user whose rows are of one class has none and is left out. Scores that are NaN give NaN, and so does
what is not defined.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np


@dataclasses.dataclass(frozen=True)
class Gauc:
    """The mean of the users' own AUC, and how much of the data it is of.

    Attributes:
      value: the mean, weighted by rows; NaN where no user has both classes.
      kept_users: share of the users who have both classes.
      kept_rows: share of the rows that are theirs.
    """

    value: float
    kept_users: float
    kept_rows: float


@dataclasses.dataclass(frozen=True)
class Difference:
    """A metric of one model minus that of another, with bootstrap bounds over users.

    Attributes:
      value: the difference on all rows.
      lower_bound: one-sided.
      interval: two-sided, of the same confidence.
    """

    value: float
    lower_bound: float
    interval: tuple[float, float]


def compute_auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
    """AUC of rows; O(n log n).

    Args:
      labels: [n] 0 or 1.
      scores: [n].
      weights: [n] how often each row counts; once where left out.

    Returns:
      AUC; NaN where a score is NaN or a class is missing.
    """
    pairs = _RankedPairs(labels, scores)
    return pairs.compute(np.ones(len(labels), np.int64) if weights is None else weights)


def compute_gauc(users: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> Gauc:
    """GAUC of rows; O(n log n).

    Args:
      users: [n] codes from 0, of which none is left out.
      labels: [n] 0 or 1.
      scores: [n].
    """
    aucs, rows = compute_user_aucs(users, labels, scores)
    defined = _has_both_classes(users, labels)
    return Gauc(
        value=_mean(aucs[defined], rows[defined]),
        kept_users=float(defined.mean()),
        kept_rows=float(rows[defined].sum() / rows.sum()),
    )


def compute_user_aucs(
    users: np.ndarray, labels: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Each user's own AUC, by one sort of all rows.

    Args:
      users: [n] codes from 0, of which none is left out.
      labels: [n] 0 or 1.
      scores: [n].

    Returns:
      AUC [U], NaN where a score is or a class is missing; and rows [U].
    """
    order = np.lexsort((scores, users))
    user, score, positive = users[order], scores[order], np.asarray(labels)[order] > 0
    is_new = np.r_[True, (user[1:] != user[:-1]) | (score[1:] != score[:-1])]
    group = np.cumsum(is_new) - 1  # rows of one user and one score
    first = np.flatnonzero(is_new)
    negatives = np.r_[0, np.cumsum(~positive)]
    ends = np.r_[first[1:], len(user)]
    rows = np.bincount(users)
    starts = np.r_[0, np.cumsum(rows)[:-1]]  # each user's first row in the order
    # Negatives of the same user below each row's group, and half of those in it.
    below = (negatives[first] + negatives[ends])[group] / 2 - negatives[starts][user]
    won = np.bincount(user, weights=below * positive)
    positives = np.bincount(user, weights=positive)
    with np.errstate(invalid="ignore"):
        aucs = won / (positives * (rows - positives))
    aucs[np.unique(users[np.isnan(scores)])] = np.nan
    return aucs, rows


def bootstrap_auc_difference(
    users: np.ndarray,
    labels: np.ndarray,
    scores_a: np.ndarray,
    scores_b: np.ndarray,
    confidence: float,
    samples: int,
    seed: int = 0,
) -> Difference:
    """AUC under one model minus AUC under another, by a paired percentile bootstrap over users.

    A resample gives each user a multiplicity, which is the weight of all of the user's rows; the scores are
    sorted once (Efron & Tibshirani 1993, ch. 13). A resample that lacks a class is left out. With constant
    `scores_b` it is the distance to a half.

    Args:
      users: [n] codes from 0, of which none is left out.
      labels: [n] 0 or 1.
      scores_a: [n] of the one model; or [S, n] of S trainings of it, whose AUCs are averaged.
      scores_b: of the other, likewise.
      confidence: e.g. .95.
      samples: bootstrap resamples.
      seed: of the resampling.
    """
    pairs = [
        [_RankedPairs(labels, scores, users) for scores in np.atleast_2d(model)]
        for model in (scores_a, scores_b)
    ]

    def compare(weights: np.ndarray) -> float:
        means = [np.mean([training.compute(weights) for training in trainings]) for trainings in pairs]
        return float(means[0] - means[1])

    num_users = users.max() + 1
    differences = [compare(drawn) for drawn in _resample(num_users, samples, seed)]
    return _summarise(compare(np.ones(num_users, np.int64)), np.array(differences), confidence)


class _RankedPairs:
    """The rows of both classes, sorted by score, so that AUC under any weights is O(n).

    Args:
      labels: [n] 0 or 1.
      scores: [n].
      owners: [n] whose weight each row has; its own where left out.
    """

    def __init__(self, labels: np.ndarray, scores: np.ndarray, owners: np.ndarray | None = None):
        owners = np.arange(len(labels)) if owners is None else owners
        order = np.argsort(scores, kind="stable")
        is_positive = np.asarray(labels)[order] > 0
        scores, owners = scores[order], owners[order]
        self._positives, self._negatives = owners[is_positive], owners[~is_positive]
        self._below = np.searchsorted(scores[~is_positive], scores[is_positive], side="left")
        self._up_to = np.searchsorted(scores[~is_positive], scores[is_positive], side="right")
        self._is_defined = not np.isnan(scores).any()

    def compute(self, weights: np.ndarray) -> float:
        """AUC under the owners' weights; NaN where a score is NaN or a class weighs nothing."""
        if not self._is_defined:
            return np.nan
        negatives = np.zeros(len(self._negatives) + 1, weights.dtype)
        np.cumsum(weights[self._negatives], out=negatives[1:])
        positives = weights[self._positives]
        pairs = positives.sum() * negatives[-1]
        if pairs == 0:
            return np.nan
        return float(positives @ (negatives[self._below] + negatives[self._up_to]) / (2 * pairs))


def _has_both_classes(users: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether each user [U] has a row of either class."""
    clicks = np.bincount(users, weights=np.asarray(labels) > 0)
    return (clicks > 0) & (clicks < np.bincount(users))


def _resample(num_users: int, samples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each user [U] is drawn, for each resample.

    Whole numbers, because NumPy adds those up ten times as fast as floats.
    """
    rng = np.random.default_rng(seed)
    for _ in range(samples):
        yield np.bincount(rng.integers(num_users, size=num_users), minlength=num_users)


def _mean(values: np.ndarray, weights: np.ndarray) -> float:
    return float(values @ weights / weights.sum()) if weights.sum() > 0 else float("nan")


def _summarise(value: float, resampled: np.ndarray, confidence: float) -> Difference:
    if np.isnan(value):
        return Difference(value, value, (value, value))
    tail = (1.0 - confidence) / 2
    lower, low, high = np.nanquantile(resampled, [1.0 - confidence, tail, 1.0 - tail])
    return Difference(value, float(lower), (float(low), float(high)))

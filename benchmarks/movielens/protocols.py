"""Which ratings are held out, and how the answers are counted."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from scipy import sparse

from benchmarks.movielens.ratings import Ratings

TRAIN_SHARE = 0.8  # 80,000 of 100,000
SHUFFLE_SEED = 42


@dataclasses.dataclass(frozen=True)
class Split:
    """Ratings to learn from, and ratings to find; no rating is in both."""

    train: Ratings
    asked: Ratings


def split_at_random(ratings: Ratings) -> Split:
    """The tutorials' split: shuffled with seed 42, the first 80% train.

    It is another draw than theirs: TensorFlow Datasets hands them the ratings in an order of its own.
    """
    import tensorflow as tf

    tf.random.set_seed(SHUFFLE_SEED)
    numbers = tf.data.Dataset.range(len(ratings)).shuffle(
        len(ratings), seed=SHUFFLE_SEED, reshuffle_each_iteration=False
    )
    order = np.concatenate(list(numbers.batch(1 << 16).as_numpy_iterator()))
    size = round(TRAIN_SHARE * len(ratings))
    return Split(ratings.take(order[:size]), ratings.take(order[size:]))


def hold_out_last(ratings: Ratings) -> Split:
    """Each user's last rating is held out, of equal times the last in the file.

    A user with a single rating keeps it: nobody could be asked about a user without a past.
    """
    order = ratings.in_time()
    users = ratings.users[order]
    is_last = np.append(users[1:] != users[:-1], True)
    is_first = np.append(True, users[1:] != users[:-1])
    asked = np.zeros(len(ratings), bool)
    asked[order[is_last & ~is_first]] = True
    return Split(ratings.take(~asked), ratings.take(asked))


def compute_ranks(scores: np.ndarray, targets: np.ndarray, left_out: sparse.csr_matrix | None) -> np.ndarray:
    """The targets' ranks from 0, by id; a tie counts against the target, and so does NaN.

    Args:
      scores: [Q, N] of every item; the largest is the best.
      targets: int64 [Q] items.
      left_out: [Q, N] the items that are no answer, not zero; None leaves out nothing.

    Returns:
      [Q]; infinite for a target that is left out.
    """
    own = np.take_along_axis(scores, targets[:, np.newaxis], axis=1)
    above = ~(scores < own)
    np.put_along_axis(above, targets[:, np.newaxis], False, axis=1)
    if left_out is None:
        return above.sum(axis=1).astype(np.float64)
    rows, columns = left_out.nonzero()
    above[rows, columns] = False
    is_out = np.asarray(left_out[np.arange(len(targets)), targets]).ravel() != 0
    return np.where(is_out, np.inf, above.sum(axis=1))


def count_random_split(ranks: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Top-k accuracy, with the seen items removed and kept."""
    return {
        f"{seen}_top_{k}": (ranks[seen] < k).astype(np.float64)
        for seen in ("removed", "kept")
        for k in (10, 100)
    }


def count_last_out(ranks: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Recall and NDCG with the seen items removed; with one right answer, recall is a hit."""
    rank = ranks["removed"]
    recalls = {f"recall_{k}": (rank < k).astype(np.float64) for k in (10, 20, 100)}
    return {**recalls, "ndcg_10": np.where(rank < 10, 1.0 / np.log2(np.minimum(rank, 10) + 2), 0.0)}


@dataclasses.dataclass(frozen=True)
class Protocol:
    """One way to ask.

    Attributes:
      name: what the command is called.
      hold_out: applied to all ratings it gives the test split, to that one's training part the validation.
      count: the ranks by "removed" and "kept" to metrics of each query, [Q] each.
      choose_by: the metric that settings are chosen by.
      is_causal: whether a training row knows what its user rated before it (the last rating is asked), or
        all that the user rated besides (any rating is asked).
    """

    name: str
    hold_out: Callable[[Ratings], Split]
    count: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]
    choose_by: str
    is_causal: bool


RANDOM_SPLIT = Protocol(
    "movielens-tutorial", split_at_random, count_random_split, "removed_top_100", is_causal=False
)
LAST_OUT = Protocol("leave-last-out", hold_out_last, count_last_out, "recall_10", is_causal=True)

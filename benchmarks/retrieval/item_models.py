"""Item-to-item baselines in closed form: a user is the sum of the items in the history.

Both are matrices W [A, A] over the A active items, those with a training click; the score of item i for a
history h in {0, 1}^A is (h W)_i. They need no user vector, so a user whom training never saw is no problem.
"""

import dataclasses
from typing import Protocol

import numpy as np
import scipy.linalg
from scipy import sparse

MAX_ACTIVE_ITEMS = 30_000  # W in float32 is then 3.6 GB
_BLOCK = 2048


class ItemModel(Protocol):
    """A way to compute W."""

    def fit(self, clicks: sparse.csr_matrix) -> np.ndarray | sparse.csr_matrix:
        """W [A, A] from the users' clicks [U, A], zeros and ones."""


@dataclasses.dataclass(frozen=True)
class Ease:
    """EASE (Steck 2019, arXiv 1905.03375, eq. 8): W_ij = -P_ij / P_jj, W_jj = 0, P = (X'X + l2 I)^-1.

    Attributes:
      l2: the ridge penalty.
    """

    l2: float

    def fit(self, clicks: sparse.csr_matrix) -> np.ndarray:
        """See `ItemModel`.

        Raises:
          ValueError: if there are more than `MAX_ACTIVE_ITEMS` items.
        """
        _check_size(clicks)
        precision = self._invert(clicks)
        diagonal = np.diag(precision).copy()
        precision /= -diagonal[np.newaxis, :]
        np.fill_diagonal(precision, 0.0)
        return precision.astype(np.float32)

    def _invert(self, clicks: sparse.csr_matrix) -> np.ndarray:
        """P, through the smaller of X'X [A, A] and XX' [U, U]."""
        num_users, num_items = clicks.shape
        if num_items <= num_users:
            gram = (clicks.T @ clicks).toarray().astype(np.float64)
            gram[np.diag_indices(num_items)] += self.l2
            return scipy.linalg.inv(gram, overwrite_a=True, check_finite=False)
        # Woodbury: (X'X + l2 I)^-1 = (I - X' (XX' + l2 I)^-1 X) / l2.
        gram = (clicks @ clicks.T).toarray().astype(np.float64)
        gram[np.diag_indices(num_users)] += self.l2
        factor = scipy.linalg.cholesky(gram, lower=True, check_finite=False)
        half = scipy.linalg.solve_triangular(factor, clicks.toarray().astype(np.float64), lower=True)
        precision = half.T @ half
        precision *= -1.0 / self.l2
        precision[np.diag_indices(num_items)] += 1.0 / self.l2
        return precision


@dataclasses.dataclass(frozen=True)
class ItemKnn:
    """Item-kNN: W_ji = c_ij / (sqrt(c_i c_j) + shrinkage) for the neighbours j of i, 0 for other items.

    c_i counts the users who clicked i, c_ij those who clicked both (Sarwar et al. 2001; the shrinkage after
    Bell & Koren 2007, in the denominator as in Ferrari Dacrema et al. 2019).

    Attributes:
      neighbours: items j with the largest weight that each item i keeps; itself is none of them.
      shrinkage: in clicks; it takes weight from pairs that few users support.
    """

    neighbours: int
    shrinkage: float

    def fit(self, clicks: sparse.csr_matrix) -> sparse.csr_matrix:
        """See `ItemModel`.

        Raises:
          ValueError: if there are more than `MAX_ACTIVE_ITEMS` items.
        """
        _check_size(clicks)
        num_items = clicks.shape[1]
        norms = np.sqrt(np.asarray(clicks.sum(axis=0), np.float64).ravel())
        columns = clicks.tocsc()
        blocks = []
        for start in range(0, num_items, _BLOCK):
            stop = min(start + _BLOCK, num_items)
            together = (columns[:, start:stop].T @ clicks).toarray().astype(np.float64)  # (block, item)
            weights = together / np.maximum(norms[start:stop, np.newaxis] * norms + self.shrinkage, 1e-12)
            weights[np.arange(stop - start), np.arange(start, stop)] = 0.0
            blocks.append(_keep_largest(weights, self.neighbours))
        return sparse.vstack(blocks).T.tocsr().astype(np.float32)


def _keep_largest(weights: np.ndarray, count: int) -> sparse.csr_matrix:
    """The `count` largest entries of each row [B, A]; of equal ones the first."""
    if count < weights.shape[1]:
        # argpartition would break ties at random; a stable sort of the negated row does not.
        dropped = np.argsort(-weights, axis=1, kind="stable")[:, count:]
        np.put_along_axis(weights, dropped, 0.0, axis=1)
    return sparse.csr_matrix(weights)


def _check_size(clicks: sparse.csr_matrix) -> None:
    num_items = clicks.shape[1]
    if num_items > MAX_ACTIVE_ITEMS:
        raise ValueError(
            f"{num_items:,} items have a training click; item-kNN and EASE hold a matrix of items x items "
            f"and stop at {MAX_ACTIVE_ITEMS:,} ({4e-9 * num_items**2:.0f} GB would be needed). "
            "Run the benchmark on a smaller catalogue."
        )

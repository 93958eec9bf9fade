"""Item vectors in closed form, for a model to start from."""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import svds


def compute_item_factors(clicks: sparse.csr_matrix, dim: int, seed: int) -> np.ndarray:
    """Items that the same users clicked get similar vectors (PureSVD, Cremonesi et al., RecSys 2010).

    The rows of V S, where U S V' is the truncated singular value decomposition of D_u^-1/2 X D_i^-1/4: X
    the clicks, D_u and D_i the users' and the items' numbers of clicks. Without the first, the few who
    click most would decide; the second weakens the popular items.

    Where a few hundred clicks per user meet few side features, gradient descent from random vectors learns
    the users by heart before it has found this structure. Where items have hardly any clicks, the factors
    are noise, and the start is better left at random.

    Args:
      clicks: [U, I] zeros and ones.
      dim: factors at most; fewer if U or I is not larger.
      seed: of the solver's start.

    Returns:
      [I, factors] of root mean square 1 over the items with a click; an item without one has zeros.
    """
    users, items = (np.asarray(clicks.sum(axis=axis)).ravel() for axis in (1, 0))
    count = min(dim, min(clicks.shape) - 1)
    if count < 1:
        return np.zeros((clicks.shape[1], 0), np.float32)
    scaled = (
        sparse.diags(1 / np.sqrt(np.maximum(users, 1))) @ clicks @ sparse.diags(np.maximum(items, 1) ** -0.25)
    )
    _, singular, right = svds(scaled, k=count, random_state=seed)
    factors = right.T * singular
    return (factors / np.sqrt(np.mean(np.square(factors[items > 0])))).astype(np.float32)

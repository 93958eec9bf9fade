"""The closed-form item vectors, against a dense decomposition and a planted structure."""

import numpy as np
from scipy import sparse

from trainers.retrieval.spectral import compute_item_factors


def test_factors_are_those_of_the_dense_decomposition():
    rng = np.random.default_rng(0)
    clicks = (rng.random((30, 12)) < 0.3).astype(np.float32)
    clicks[:, 5] = 0
    clicks[0] = 0
    per_user, per_item = clicks.sum(1), clicks.sum(0)
    scaled = clicks / np.sqrt(np.maximum(per_user, 1))[:, None] / np.maximum(per_item, 1) ** 0.25
    _, singular, right = np.linalg.svd(scaled)
    want = (right.T[:, :4] * singular[:4]) @ (right.T[:, :4] * singular[:4]).T  # free of signs
    want /= np.trace(want) / (11 * 4)  # 11 items with a click, 4 factors, mean square 1
    got = compute_item_factors(sparse.csr_matrix(clicks), 4, seed=1)
    assert got.shape == (12, 4)
    np.testing.assert_allclose(got @ got.T, want, atol=1e-5 * max(1, np.abs(want).max()))
    assert np.abs(got[5]).max() < 1e-6


def test_items_of_one_crowd_are_nearer_than_items_of_two():
    rng = np.random.default_rng(1)
    crowd, group = rng.integers(0, 3, 200), np.repeat(np.arange(3), 10)
    clicks = rng.random((200, 30)) < np.where(crowd[:, None] == group[None, :], 0.4, 0.02)
    factors = compute_item_factors(sparse.csr_matrix(clicks.astype(np.float32)), 3, seed=1)
    unit = factors / np.linalg.norm(factors, axis=1, keepdims=True)
    cosine, same = unit @ unit.T, group[:, None] == group[None, :]
    assert cosine[same].min() > 0.8
    assert cosine[~same].max() < 0.5


def test_too_few_users_give_fewer_factors():
    assert compute_item_factors(sparse.csr_matrix(np.ones((1, 5), np.float32)), 4, seed=1).shape == (5, 0)
    assert compute_item_factors(sparse.csr_matrix(np.eye(3, 5, dtype=np.float32)), 4, seed=1).shape == (5, 2)

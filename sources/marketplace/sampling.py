"""Vectorised draws."""

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Shares [R, G] that sum to 1 in each row."""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def draw_below(rng: np.random.Generator, limit: np.ndarray) -> np.ndarray:
    """Whole numbers from 0 to limit - 1, one per entry; 0 where the limit is 0."""
    bits = rng.integers(2**32, size=limit.shape, dtype=np.uint32)
    return (bits.astype(np.int64) * limit) >> 32


def draw_from_rows(rng: np.random.Generator, shares: np.ndarray, num_draws: int) -> np.ndarray:
    """Draws columns of shares [R, G] (rows sum to 1) with replacement; returns [R, num_draws]."""
    cumulative = np.cumsum(shares, axis=1)
    uniform = rng.random(size=(len(shares), num_draws), dtype=np.float32)
    drawn = np.zeros(uniform.shape, np.int64)
    for group in range(shares.shape[1] - 1):
        drawn += uniform > cumulative[:, group : group + 1]
    return drawn

"""What is searched: seeded unit vectors of three distributions, queries, and the exact answers."""

import dataclasses
from collections.abc import Callable

import numpy as np

DIMENSIONS = 64
DEPTH = 100
NUM_CENTRES = 2000
_ITEM_NOISE = 0.5
_QUERY_NOISE = 0.05
_ROWS_AT_ONCE = 20_000  # of the items that the exact answers are computed from
_ROUNDING = 1e-12  # of a sum in double precision, whose order is not always the same


@dataclasses.dataclass(frozen=True)
class SearchData:
    """Vectors to search, and two sets of queries with their answers.

    Attributes:
      items: [N, D] float32, of length 1.
      tuning: for choosing settings.
      measured: for the figures.
    """

    items: np.ndarray
    tuning: "Asked"
    measured: "Asked"


@dataclasses.dataclass(frozen=True)
class Asked:
    """Queries and what is right for them.

    Attributes:
      queries: [Q, D] float32, of length 1.
      rows: [Q, k] the items of the largest inner product, best first.
      floors: [Q] float64, the k-th largest inner product: an item that ties with it is right as well.
    """

    queries: np.ndarray
    rows: np.ndarray
    floors: np.ndarray


def sample_clustered(
    rng: np.random.Generator, num_items: int, num_queries: int
) -> tuple[np.ndarray, np.ndarray]:
    """Items around Gaussian centres; a query is an item with noise.

    Returns:
      items [N, D] and queries [Q, D], not of length 1: noise is added to items of length 1.
    """
    centres = _gauss(rng, NUM_CENTRES)
    items = centres[rng.integers(NUM_CENTRES, size=num_items)] + _ITEM_NOISE * _gauss(rng, num_items)
    asked = _unit(items[rng.integers(num_items, size=num_queries)])
    return items, asked + _QUERY_NOISE * _gauss(rng, num_queries)


def sample_spectrum(
    rng: np.random.Generator, num_items: int, num_queries: int
) -> tuple[np.ndarray, np.ndarray]:
    """Items and independent queries, Gaussian, the i-th eigenvalue of the covariance 1/i; see above."""
    deviations = 1.0 / np.sqrt(np.arange(1, DIMENSIONS + 1, dtype=np.float32))
    return deviations * _gauss(rng, num_items), deviations * _gauss(rng, num_queries)


def sample_isotropic(
    rng: np.random.Generator, num_items: int, num_queries: int
) -> tuple[np.ndarray, np.ndarray]:
    """Items and independent queries without any structure; see above."""
    return _gauss(rng, num_items), _gauss(rng, num_queries)


DISTRIBUTIONS: dict[str, Callable[[np.random.Generator, int, int], tuple[np.ndarray, np.ndarray]]] = {
    "clustered": sample_clustered,
    "spectrum": sample_spectrum,
    "isotropic": sample_isotropic,
}


def make_search_data(
    distribution: str, num_items: int, num_tuning: int, num_measured: int, seed: int
) -> SearchData:
    """Samples one of the distributions and computes the exact answers.

    Args:
      distribution: a key of `DISTRIBUTIONS`.
      num_items: at least `DEPTH`.
      num_tuning: queries to choose settings with.
      num_measured: other queries of the same kind.
      seed: of everything.

    Raises:
      ValueError: if there are fewer items than are asked for.
    """
    if num_items < DEPTH:
        raise ValueError(f"{num_items} items are too few: the {DEPTH} best are searched")
    rng = np.random.default_rng(seed)
    items, queries = map(_unit, DISTRIBUTIONS[distribution](rng, num_items, num_tuning + num_measured))
    rows, floors = find_exactly(items, queries, DEPTH)
    first, then = slice(None, num_tuning), slice(num_tuning, None)
    return SearchData(
        items,
        Asked(queries[first], rows[first], floors[first]),
        Asked(queries[then], rows[then], floors[then]),
    )


def find_exactly(items: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best rows [Q, k] and the k-th best inner product [Q], decided in double precision."""
    kept = min(2 * k, len(items))  # single precision decides who is looked at, with as many again to spare
    rows = np.empty((len(queries), 0), np.int64)
    scores = np.empty((len(queries), 0), np.float32)
    for start in range(0, len(items), _ROWS_AT_ONCE):
        part = queries @ items[start : start + _ROWS_AT_ONCE].T
        width = min(kept, part.shape[1])
        best = np.argpartition(part, -width, axis=1)[:, -width:]
        rows = np.hstack([rows, best + start])
        scores = np.hstack([scores, np.take_along_axis(part, best, axis=1)])
    best = np.argpartition(scores, -kept, axis=1)[:, -kept:]
    rows = np.take_along_axis(rows, best, axis=1)
    exact = _score(items, queries, rows)
    order = np.argsort(-exact, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(exact, order, axis=1)[:, -1]


def compute_recalls(items: np.ndarray, asked: Asked, found: np.ndarray) -> np.ndarray:
    """The share of each query's k answers that are right.

    Args:
      items: [N, D].
      asked: Q queries and their answers.
      found: [Q, k] rows; a negative one stands for nothing, and a row given twice counts once.

    Returns:
      [Q] in [0, 1].
    """
    scores = _score(items, asked.queries, np.maximum(found, 0))
    right = (found >= 0) & (scores >= asked.floors[:, np.newaxis] - _ROUNDING)
    counts = [len(np.unique(rows[good])) for rows, good in zip(found, right, strict=True)]
    return np.array(counts) / asked.rows.shape[1]


def _score(items: np.ndarray, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Inner products [Q, R] in double precision of queries [Q, D] with the items at rows [Q, R]."""
    pairs = zip(queries.astype(np.float64), rows, strict=True)
    return np.array([items[row].astype(np.float64) @ query for query, row in pairs])


def _gauss(rng: np.random.Generator, rows: int) -> np.ndarray:
    return rng.standard_normal((rows, DIMENSIONS), dtype=np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

"""hnswlib and faiss, as one would set them up."""

from collections.abc import Callable

import faiss
import hnswlib
import numpy as np

from benchmarks.index.data import DEPTH, DIMENSIONS
from benchmarks.index.timing import Setting, grow

_EF_CONSTRUCTION = 200


class Hnsw:
    """hnswlib's graph (Malkov and Yashunin 2018) by inner product.

    Args:
      items: [N, D].
      links: M, the links of an item in a layer; twice as many in the lowest.
      threads: for building; one searches.
    """

    def __init__(self, items: np.ndarray, links: int, threads: int):
        self._index = hnswlib.Index("ip", DIMENSIONS)
        self._index.init_index(len(items), M=links, ef_construction=_EF_CONSTRUCTION, random_seed=0)
        self._index.add_items(items, num_threads=threads)
        self._index.set_num_threads(1)

    def prepare(self, setting: Setting) -> Callable[[np.ndarray], np.ndarray]:
        """`ef`: candidates the search keeps."""
        self._index.set_ef(setting["ef"])
        return lambda query: self._index.knn_query(query, DEPTH)[0][0]

    def read(self, answer: np.ndarray) -> np.ndarray:
        """The labels are rows."""
        return answer.astype(np.int64)


class Faiss:
    """One of faiss' inverted files by inner product, with or without exact scores for the best.

    Args:
      items: [N, D].
      factory: what `faiss.index_factory` builds.
      threads: for building; one searches.
    """

    def __init__(self, items: np.ndarray, factory: str, threads: int):
        faiss.omp_set_num_threads(threads)
        self._index = faiss.index_factory(DIMENSIONS, factory, faiss.METRIC_INNER_PRODUCT)
        self._index.train(items)
        self._index.add(items)
        faiss.omp_set_num_threads(1)

    def prepare(self, setting: Setting) -> Callable[[np.ndarray], np.ndarray]:
        """`nprobe`: lists it opens; `k_factor_rf`: how many times k candidates it scores exactly."""
        for name, value in setting.items():
            faiss.ParameterSpace().set_index_parameter(self._index, name, value)
        return lambda query: self._index.search(query[np.newaxis], DEPTH)[1][0]

    def read(self, answer: np.ndarray) -> np.ndarray:
        """The ids are rows."""
        return answer


def list_ef(step: float) -> list[Setting]:
    """The grid of `Hnsw`."""
    return [{"ef": ef} for ef in grow(DEPTH, 3200, step)]


def list_nprobe(num_lists: int, step: float, *, refined: bool) -> list[Setting]:
    """The grid of `Faiss`; refined, if the best are scored exactly."""
    lists: list[Setting] = [{"nprobe": nprobe} for nprobe in grow(1, num_lists, step)]
    return (
        [{**setting, "k_factor_rf": k} for setting in lists for k in (2, 4, 8, 16, 32)] if refined else lists
    )

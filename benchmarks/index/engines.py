"""What is compared: the engines, and the ways in which each may be set up.

TensorFlow, faiss and hnswlib are imported by the functions that build: a study whose results are all there
reads this list and nothing else.
"""

import dataclasses
import importlib.util
import math
import os
from collections.abc import Callable, Sequence

from benchmarks.index.data import SearchData
from benchmarks.index.timing import ExactScan, Searcher, Setting, choose_settings, on_one_core

BRUTE_FORCE, SCANN, SERVED, HNSWLIB, FAISS = "brute_force", "scann", "scann_served", "hnswlib", "faiss"
ENGINES = (BRUTE_FORCE, SCANN, SERVED, HNSWLIB, FAISS)
_PACKAGES = {"hnswlib": "hnswlib", "faiss": "faiss-cpu"}  # by the name they are imported under
_BASELINES = "benchmarks.index.baselines"
_SCANN = "benchmarks.index.scann_engines"

# From a data set: the index over its items, and the settings to measure, chosen on its tuning queries.
Build = Callable[[SearchData], tuple[Searcher, Sequence[Setting]]]


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to set an engine up.

    Attributes:
      engine: of `ENGINES`.
      name: of the variant.
      build: makes it.
      modules: whose code it depends on, beside the data's and the timing's.
    """

    engine: str
    name: str
    build: Build
    modules: tuple[str, ...]


def list_missing_packages() -> list[str]:
    """What would have to be installed to build every variant."""
    return [package for name, package in _PACKAGES.items() if importlib.util.find_spec(name) is None]


def list_variants(
    num_items: int, targets: Sequence[float], step: float, hnsw_links: Sequence[int]
) -> list[Variant]:
    """Everything that is measured on a distribution.

    Args:
      num_items: of the data.
      targets: recalls that the served index is tuned to.
      step: the factor between the settings that are tried of the other engines.
      hnsw_links: hnswlib's M, each a graph of its own.
    """
    few = round(math.sqrt(num_items))
    many = 4 * few  # where faiss' guidelines begin
    return [
        Variant(BRUTE_FORCE, "matrix product and partition", lambda data: (ExactScan(data.items), [{}]), ()),
        Variant(SERVED, "SavedModel", lambda data: _build_served(data, targets), (_SCANN,)),
        Variant(SCANN, "Python interface", lambda data: _build_bare(data, step), (_SCANN,)),
        # Rotated at random, as the codes of a spectrum's axes would be of very unequal use
        _make_faiss("RR64,IVF{},PQ32x4fs,RFlat", few, step),
        _make_faiss("RR64,IVF{},PQ32x4fs,RFlat", many, step),
        _make_faiss("IVF{},Flat", few, step),
        *(_make_hnsw(links, step) for links in hnsw_links),
    ]


def _build_served(data: SearchData, targets: Sequence[float]) -> tuple[Searcher, Sequence[Setting]]:
    from benchmarks.index.scann_engines import ServedScann

    searcher = ServedScann(data.items)
    with on_one_core():
        return searcher, [searcher.tune(data.tuning, target) for target in targets]


def _build_bare(data: SearchData, step: float) -> tuple[Searcher, Sequence[Setting]]:
    from benchmarks.index.scann_engines import BareScann, list_leaves_and_factor

    searcher = BareScann(data.items, _count_cores())
    return searcher, choose_settings(searcher, list_leaves_and_factor(len(data.items), step), data)


def _make_faiss(factory: str, num_lists: int, step: float) -> Variant:
    factory = factory.format(num_lists)

    def build(data: SearchData) -> tuple[Searcher, Sequence[Setting]]:
        from benchmarks.index.baselines import Faiss, list_nprobe

        searcher = Faiss(data.items, factory, _count_cores())
        settings = list_nprobe(num_lists, step, refined=factory.endswith("RFlat"))
        return searcher, choose_settings(searcher, settings, data)

    return Variant(FAISS, factory, build, (_BASELINES,))


def _make_hnsw(links: int, step: float) -> Variant:
    def build(data: SearchData) -> tuple[Searcher, Sequence[Setting]]:
        from benchmarks.index.baselines import Hnsw, list_ef

        searcher = Hnsw(data.items, links, _count_cores())
        return searcher, choose_settings(searcher, list_ef(step), data)

    return Variant(HNSWLIB, f"M={links}", build, (_BASELINES,))


def _count_cores() -> int:
    return len(os.sched_getaffinity(0))

"""Runs the comparison, a variant on a distribution at a time, and goes on where it stopped."""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.index.data import DISTRIBUTIONS, SearchData, make_search_data
from benchmarks.index.engines import Variant, list_variants
from benchmarks.index.timing import Point, measure
from benchmarks.machine import describe_machine
from benchmarks.results import ResultStore

# The recall of each distribution that is asked of the engines; the others draw the curve.
ASKED_RECALLS = {"clustered": 0.99, "spectrum": 0.98, "isotropic": 0.95}
PACKAGES = ("scann", "tensorflow", "hnswlib", "faiss-cpu", "numpy")


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How much is measured.

    Attributes:
      num_items: vectors of each distribution.
      num_tuning: queries that settings are chosen on.
      num_measured: queries that the figures are of.
      rounds: in which the measured queries are asked, each engine in turn with the exact scan.
      targets: recalls the served index is tuned to.
      step: the factor between the settings tried of the other engines.
      hnsw_links: hnswlib's M; a graph of 32 takes twice the time to build that one of 16 does.
      seed: of the data.
    """

    num_items: int = 1_000_000
    num_tuning: int = 256
    num_measured: int = 1000
    rounds: int = 5
    targets: Sequence[float] = (0.9, 0.95, 0.98, 0.99)
    step: float = 2.0
    hnsw_links: Sequence[int] = (16,)
    seed: int = 0


def make_full(protocol: Protocol) -> Protocol:
    """Three times the queries and rounds, curves of twice the points, and a larger graph of hnswlib's."""
    return dataclasses.replace(
        protocol,
        num_measured=3 * protocol.num_measured,
        rounds=3 * protocol.rounds,
        targets=(0.8, 0.85, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995),
        step=2.0**0.5,
        hnsw_links=(16, 32),
    )


@dataclasses.dataclass(frozen=True)
class Measured:
    """A variant on a distribution.

    Attributes:
      distribution: a key of `DISTRIBUTIONS`.
      engine: of the variant.
      variant: its name.
      build_seconds: to build and tune it.
      points: its curve.
    """

    distribution: str
    engine: str
    variant: str
    build_seconds: float
    points: list[Point]


def run_study(
    protocol: Protocol,
    store: ResultStore,
    fingerprint: Callable[..., str],
    report: Callable[[str], None],
) -> list[Measured]:
    """Measures what is not in the store yet.

    Args:
      protocol: how much is measured.
      store: earlier results, and where new ones go.
      fingerprint: a hash of the code of modules.
      report: told of each result.

    Returns:
      all results.
    """
    results = []
    base = {"protocol": dataclasses.asdict(protocol), "machine": describe_machine(PACKAGES)}
    loads = {
        name: functools.cache(functools.partial(_load, protocol, name, report)) for name in DISTRIBUTIONS
    }
    for variant in list_variants(protocol.num_items, protocol.targets, protocol.step, protocol.hnsw_links):
        code = fingerprint("benchmarks.index.timing", *variant.modules)
        for distribution, load in loads.items():
            depends_on = {
                **base,
                "distribution": distribution,
                "variant": f"{variant.engine} {variant.name}",
                "code": code,
            }
            compute = functools.partial(_measure, distribution, variant, load, protocol.rounds)
            values, was_there = store.fetch(depends_on, compute)
            points = [Point(**point) for point in values["points"]]
            results.append(Measured(**{**values, "points": points}))
            report(_describe(results[-1], was_there))
    return results


def _load(protocol: Protocol, distribution: str, report: Callable[[str], None]) -> SearchData:
    report(f"{distribution}: {protocol.num_items:,} items and the exact answers")
    return make_search_data(
        distribution, protocol.num_items, protocol.num_tuning, protocol.num_measured, protocol.seed
    )


def _measure(
    distribution: str, variant: Variant, load: Callable[[], SearchData], rounds: int
) -> dict[str, Any]:
    data = load()
    start = time.monotonic()
    searcher, settings = variant.build(data)
    seconds = round(time.monotonic() - start, 1)
    points = measure(searcher, settings, data, rounds)
    return dataclasses.asdict(Measured(distribution, variant.engine, variant.name, seconds, points))


def _describe(measured: Measured, was_there: bool) -> str:
    how = "measured before" if was_there else f"built and tuned in {measured.build_seconds:.0f} s"
    recalls = [point.recall for point in measured.points]
    spread = f"recall {min(recalls):.3f} to {max(recalls):.3f}" if recalls else "no setting of use"
    return f"{measured.distribution}, {measured.engine} {measured.variant}: {spread} ({how})"

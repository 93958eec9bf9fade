"""What the timings come to."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.dien_speed import bucketing
from benchmarks.dien_speed.data import Sizes
from benchmarks.dien_speed.models import BILINEAR, DIEN, DIEN_AUX, DIN, FORMS, SHARED, SHARED_ROWS
from benchmarks.dien_speed.peers import PEERS
from benchmarks.dien_speed.study import Timings


def summarize(timings: Timings, sizes: Sizes, machine: str) -> dict[str, Any]:
    """Rates and ratios; a ratio is the median over the rounds of that within a round.

    Args:
      timings: of `study.measure`.
      sizes: that it was given.
      machine: see `describe_machine`.

    Returns:
      `rows_per_second` by model, each `p50`, `p25` and `p75` over the rounds;
      `dien_aux_over_din_time`;
      `over_fastest_peer`, our DIEN's rows per second over those of the fastest peer's DIEN, both without
      auxiliary loss, and `aux_over_fastest_peer`, both with it; None where there is no such peer;
      `bilinear`, the same three of our forms with that attention, and `shared`, of those that share
      histories, which no peer can;
      `over_peers`, rows per second of our form that has a peer's attention and its auxiliary loss or lack of
      it, over the peer's, by DIEN;
      `bucketing`: rows per second `padded` and `bucketed`, their `ratio`, and the histories' `median_length`;
      `processor`: the same of rows per second of the processor, all threads together;
      `differs` and `versions` by peer that was measured, `skipped` by one that was not;
      `sizes`, `rounds`, `machine`.
    """
    compared = _compare(timings.seconds, sizes)
    return {
        **compared,
        "processor": _compare(timings.processor_seconds, sizes),
        "differs": {name: PEERS[name].differs for name in compared["rows_per_second"] if name in PEERS},
        "versions": timings.versions,
        "skipped": timings.skipped,
        "sizes": dataclasses.asdict(sizes),
        "rounds": len(timings.seconds[DIN]),
        "machine": machine,
    }


def _compare(seconds: Mapping[str, Sequence[float]], sizes: Sizes) -> dict[str, Any]:
    rates = {name: _count_rows(name, sizes) / np.asarray(values) for name, values in seconds.items()}
    epochs = {name: rates.pop(name) for name in (bucketing.PADDED, bucketing.BUCKETED)}
    diens = [name for name in rates if name in PEERS and PEERS[name].is_dien]
    return {
        "rows_per_second": {name: describe_spread(values) for name, values in rates.items()},
        **_compare_forms("", rates, diens),
        "bilinear": _compare_forms(BILINEAR, rates, diens),
        "shared": _compare_forms(SHARED, rates, diens),
        "over_peers": {name: _median_ratio(rates[find_like(name)], rates[name]) for name in diens},
        "bucketing": {
            **{name: describe_spread(values) for name, values in epochs.items()},
            "ratio": _median_ratio(epochs[bucketing.BUCKETED], epochs[bucketing.PADDED]),
            "median_length": float(np.median(bucketing.make_lengths(sizes))),
        },
    }


def _compare_forms(suffix: str, rates: Mapping[str, np.ndarray], peers: Sequence[str]) -> dict[str, Any]:
    din, dien, dien_aux = (rates[name + suffix] for name in (DIN, DIEN, DIEN_AUX))
    return {
        "dien_aux_over_din_time": _median_ratio(din, dien_aux),
        "over_fastest_peer": _compare_with_fastest(dien, rates, peers, auxiliary=False),
        "aux_over_fastest_peer": _compare_with_fastest(dien_aux, rates, peers, auxiliary=True),
    }


def describe_spread(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Median and quartiles."""
    p25, p50, p75 = np.percentile(values, [25, 50, 75]).tolist()
    return {"p25": p25, "p50": p50, "p75": p75}


def find_like(peer: str) -> str:
    """Our DIEN that has a peer's attention and its auxiliary loss, or its lack of one."""
    wanted = PEERS[peer]
    (name,) = (
        name
        for name, form in FORMS.items()
        if form.interest != "din" and (form.attention, form.auxiliary) == (wanted.attention, wanted.auxiliary)
    )
    return name


def _count_rows(name: str, sizes: Sizes) -> int:
    """Of a step: what fills no request is left out where requests have several rows."""
    return sizes.rows // SHARED_ROWS * SHARED_ROWS if name.endswith(SHARED) else sizes.rows


def _compare_with_fastest(
    ours: np.ndarray, rates: Mapping[str, np.ndarray], peers: Sequence[str], *, auxiliary: bool
) -> float | None:
    """The fastest is that of the highest median."""
    alike = [name for name in peers if PEERS[name].auxiliary == auxiliary]
    if not alike:
        return None
    return _median_ratio(ours, rates[max(alike, key=lambda name: np.median(rates[name]))])


def _median_ratio(values: np.ndarray, others: np.ndarray) -> float:
    return float(np.median(values / others))

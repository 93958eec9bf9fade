"""All models in turns, a round at a time, in one run."""

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import numpy as np

from benchmarks.dien_speed.bucketing import make_epochs
from benchmarks.dien_speed.data import Sizes, make_columns, save
from benchmarks.dien_speed.models import (
    DIEN,
    DIEN_AUX,
    DIN,
    FORMS,
    SHARED,
    SHARED_ROWS,
    TrainingStep,
    make_batch,
)
from benchmarks.dien_speed.peer_processes import PeerError, PeerProcess
from benchmarks.dien_speed.peers import PEERS, time_steps
from trainers.scorers.data import Batch

TimeRound: TypeAlias = Callable[[], dict[str, float]]  # see `peers.time_steps`


@dataclasses.dataclass
class Timings:
    """What was measured.

    Attributes:
      seconds: of a step by the clock, by model, one for each round.
      processor_seconds: of all threads together, likewise.
      versions: of each peer's packages.
      skipped: why a peer was not measured.
    """

    seconds: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    processor_seconds: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    versions: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)

    def add(self, name: str, taken: Mapping[str, float]) -> None:
        """Keeps a round, see `peers.time_steps`."""
        self.seconds.setdefault(name, []).append(taken["seconds"])
        self.processor_seconds.setdefault(name, []).append(taken["processor_seconds"])

    def drop(self, name: str, reason: str) -> None:
        """Forgets a peer that stopped: all models have the same rounds."""
        for measured in (self.seconds, self.processor_seconds, self.versions):
            measured.pop(name, None)
        self.skipped[name] = reason


def measure(sizes: Sizes, pythons: Sequence[Path], rounds: int, report: Callable[[str], None]) -> Timings:
    """Times every model, and the epochs of `bucketing` by our DIEN with the auxiliary loss.

    Args:
      sizes: of models and data.
      pythons: interpreters that have peers.
      rounds: that count; one before them does not, in which what is made at first use is made.
      report: told of what is done.
    """
    timings = Timings()
    columns = make_columns(sizes)
    with ExitStack() as stack:
        contestants = _list_ours(sizes, columns, report)
        contestants |= _start_peers(sizes, columns, pythons, stack, timings, report)
        for number in range(rounds + 1):
            report(f"round {number} of {rounds}")
            for name, time_round in list(contestants.items()):
                try:
                    taken = time_round()
                except PeerError as error:
                    timings.drop(name, str(error))
                    del contestants[name]
                    report(f"{name}: dropped, {error}")
                    continue
                if number:
                    timings.add(name, taken)
    return timings


def _list_ours(
    sizes: Sizes, columns: Mapping[str, np.ndarray], report: Callable[[str], None]
) -> dict[str, TimeRound]:
    """How each form is timed; by one of them, what has other batches."""
    numbers = range(sizes.steps)
    batches = [make_batch(columns, number) for number in numbers]
    steps = {}
    for name, form in FORMS.items():
        report(f"{name}: tracing")
        steps[name] = TrainingStep(sizes, form, batches[0])
    shared = [make_batch(columns, number, SHARED_ROWS) for number in numbers]
    epochs = make_epochs(sizes, steps[DIEN_AUX])
    fed = {
        **{name: (step, batches) for name, step in steps.items()},
        **{name + SHARED: (steps[name], shared) for name in (DIN, DIEN, DIEN_AUX)},
        **{name: (steps[DIEN_AUX], epoch) for name, epoch in epochs.items()},
    }

    def make(step: TrainingStep, batches: Sequence[Batch]) -> TimeRound:
        return lambda: time_steps(lambda number: step(batches[number]), len(batches))

    return {name: make(*parts) for name, parts in fed.items()}


def _start_peers(
    sizes: Sizes,
    columns: Mapping[str, np.ndarray],
    pythons: Sequence[Path],
    stack: ExitStack,
    timings: Timings,
    report: Callable[[str], None],
) -> dict[str, TimeRound]:
    """How each peer is timed that runs; of the others `timings` are told why they do not."""
    path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "data.npz"
    save(sizes, columns, path)
    running: dict[str, TimeRound] = {}
    for name in PEERS:
        try:
            peer = stack.enter_context(PeerProcess(name, pythons, path))
        except PeerError as error:
            timings.skipped[name] = str(error)
            report(f"{name}: skipped, {error}")
            continue
        report(f"{name}: " + ", ".join(map(" ".join, peer.versions.items())))
        timings.versions[name] = peer.versions
        running[name] = peer.time_round
    return running

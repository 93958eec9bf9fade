"""Runs the comparison, a (model, seed) at a time, and goes on where it stopped."""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.results import ResultStore
from benchmarks.retrieval.models import ModelSpec

_TEST = "test"  # the split of every study


@dataclasses.dataclass(frozen=True)
class Measured:
    """One model with one seed, on the test split.

    Attributes:
      model: the name of its `ModelSpec`.
      seed: the first seed for a model that has none.
      chosen: what was chosen on the evaluation split.
      seconds: to build and measure it.
      users: columns of `BenchmarkData.measure`, as lists.
    """

    model: str
    seed: int
    chosen: dict[str, Any]
    seconds: float
    users: dict[str, list[Any]]


@dataclasses.dataclass(frozen=True)
class Study:
    """What is compared, and on what.

    Attributes:
      models: the rows of the table.
      seeds: of the models that have one.
      data_key: everything the data depends on; JSON values.
      machine: what the results depend on besides, see `describe_machine`.
      load_data: prepares and opens the data; called only when something has to be computed.
      fingerprint: a hash of the code of modules.
      data_module: the module of what `load_data` returns: it has `measure` and `describe`.
      headline: the metric that is reported on the way.
    """

    models: Sequence[ModelSpec]
    seeds: Sequence[int]
    data_key: Mapping[str, Any]
    machine: str
    load_data: Callable[[], Any]
    fingerprint: Callable[..., str]
    data_module: str = "benchmarks.retrieval.data"
    headline: str = "recall_100"


def run_study(
    study: Study, store: ResultStore, report: Callable[[str], None]
) -> tuple[list[Measured], dict[str, Any]]:
    """Measures what is not in the store yet.

    Args:
      study: what is compared.
      store: earlier results, and where new ones go.
      report: told of each result.

    Returns:
      all results, in the order of the models and seeds; and `BenchmarkData.describe`.
    """
    base = {
        "data": dict(study.data_key),
        "machine": study.machine,
        "protocol": study.fingerprint(study.data_module),
    }
    facts, _ = store.fetch({**base, "kind": "facts"}, lambda: study.load_data().describe())
    results = []
    for model in study.models:
        code = study.fingerprint(study.data_module, *model.modules)
        for seed in study.seeds if model.is_seeded else study.seeds[:1]:
            depends_on = {
                **base,
                "model": model.name,
                "settings": model.settings,
                "seed": seed if model.is_seeded else None,
                "code": code,
            }
            values, was_there = store.fetch(depends_on, functools.partial(_measure, study, model, seed))
            measured = Measured(**values)
            results.append(measured)
            report(_describe(measured, study.headline, model.is_seeded, was_there))
    return results, facts


def _measure(study: Study, model: ModelSpec, seed: int) -> dict[str, Any]:
    data = study.load_data()
    start = time.monotonic()
    ranker, chosen = model.build(data, seed)
    users = data.measure(ranker, _TEST).to_dict("list")
    seconds = round(time.monotonic() - start, 1)
    return dataclasses.asdict(Measured(model.name, seed, chosen, seconds, users))


def _describe(measured: Measured, headline: str, is_seeded: bool, was_there: bool) -> str:
    values = measured.users[headline]
    seed = f" seed {measured.seed}" if is_seeded else ""
    how = "measured before" if was_there else f"{measured.seconds:.0f} s"
    chosen = f", {measured.chosen}" if measured.chosen else ""
    mean = sum(values) / len(values)
    return f"{measured.model}{seed}: {headline} {mean:.4f} over users ({how}){chosen}"

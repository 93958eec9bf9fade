"""Trains the rows of the study, a (row, seed) at a time, and goes on where it stopped."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.ranking.models import RankerSpec
from benchmarks.results import ResultStore

if TYPE_CHECKING:
    from benchmarks.ranking.data import RankingData

ROWS_FILE = "rows_file"
TRAINER_MODULE = "trainers.ranking.train"


@dataclasses.dataclass(frozen=True)
class Measured:
    """One row with one seed, on the test split.

    Attributes:
      name: of its `RankerSpec`.
      seed: of its training.
      auc: of the click.
      gauc: likewise.
      log_loss: likewise.
      best_epoch: from 0, chosen on the evaluation split.
      eval_auc: there, at that epoch.
      rows_per_second: of training, in seconds of the processor; the first epoch, which reads and traces, left
        out where there is another.
      train_rows: of an epoch.
      scores_file: logits of the test split's rows, float32 [N], as `np.save` writes them.
    """

    name: str
    seed: int
    auc: float
    gauc: float
    log_loss: float
    best_epoch: int
    eval_auc: float
    rows_per_second: float
    train_rows: int
    scores_file: str


@dataclasses.dataclass(frozen=True)
class Study:
    """What is compared, and on what.

    Attributes:
      rankers: the rows of the table.
      seeds: of every row.
      data_key: everything the data depends on; JSON values.
      machine: what the results depend on besides, see `describe_machine`.
      load_data: prepares and opens the data; called only when something has to be computed.
      fingerprint: a hash of the code of modules.
      folder: keeps the results and the scores.
      data_module: the module of what `load_data` returns.
    """

    rankers: Sequence[RankerSpec]
    seeds: Sequence[int]
    data_key: Mapping[str, Any]
    machine: str
    load_data: Callable[[], "RankingData"]
    fingerprint: Callable[..., str]
    folder: Path
    data_module: str = "benchmarks.ranking.data"


def run_study(study: Study, report: Callable[[str], None]) -> tuple[list[Measured], dict[str, Any]]:
    """Trains and measures what is not kept yet; a seed of all rows before the next.

    Args:
      study: what is compared.
      report: told of each result.

    Returns:
      all results, and `RankingData.describe`.
    """
    store = ResultStore(study.folder)
    base = {
        "data": dict(study.data_key),
        "machine": study.machine,
        "code": study.fingerprint(study.data_module, TRAINER_MODULE),
    }
    facts_key = {**base, "kind": "facts"}
    facts, _ = store.fetch(facts_key, lambda: _describe_data(study, store.path(facts_key)))
    results = []
    for seed in study.seeds:
        for spec in study.rankers:
            key = {**base, "seed": seed, "config": dataclasses.asdict(spec.config)}
            values, was_there = store.fetch(
                key, functools.partial(_train_and_measure, study, store.path(key), spec, seed)
            )
            measured = Measured(**{**values, "name": spec.name})
            results.append(measured)
            how = "measured before" if was_there else f"{measured.rows_per_second:,.0f} rows/s"
            report(f"{spec.name}, seed {seed}: AUC {measured.auc:.4f}, GAUC {measured.gauc:.4f} ({how})")
    return results, facts


def _describe_data(study: Study, result_file: Path) -> dict[str, Any]:
    """What was measured on; the test split's rows are written beside it."""
    data = study.load_data()
    rows_file = result_file.with_suffix(".npz")
    study.folder.mkdir(parents=True, exist_ok=True)
    np.savez(rows_file, users=data.test_rows.users, clicked=data.test_rows.clicked)
    return {**data.describe(), ROWS_FILE: rows_file.name}


def _train_and_measure(study: Study, result_file: Path, spec: RankerSpec, seed: int) -> dict[str, Any]:
    from trainers.ranking.train import train_ranker

    data = study.load_data()
    config = dataclasses.replace(spec.config, seed=seed)
    training = data.read(config)
    result = train_ranker(config, training)
    scores = data.score(result.scorer, training)
    study.folder.mkdir(parents=True, exist_ok=True)
    scores_file = result_file.with_suffix(".npy")
    np.save(scores_file, scores.astype(np.float32))
    seconds = float(np.median(result.epoch_seconds[1:] or result.epoch_seconds))
    return dataclasses.asdict(
        Measured(
            name=spec.name,
            seed=seed,
            **data.measure(scores),
            best_epoch=result.best_epoch,
            eval_auc=float(result.history["val_auc"][result.best_epoch]),
            rows_per_second=training.num_rows / seconds,
            train_rows=training.num_rows,
            scores_file=scores_file.name,
        )
    )

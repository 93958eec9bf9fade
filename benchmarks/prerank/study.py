"""Trains the rows of the study, a (row, seed) at a time, and goes on where it stopped."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.prerank.models import ScorerSpec, drop_leaking
from benchmarks.results import ResultStore

if TYPE_CHECKING:
    from benchmarks.prerank.data import StudyData
    from trainers.scorers.data import TrainingData
    from trainers.scorers.fitting import TrainingResult
    from trainers.scorers.teaching import FrozenTeacher

ROWS_FILE = "rows_file"
MODULES = ("benchmarks.prerank.data", "trainers.prerank.train")


@dataclasses.dataclass(frozen=True)
class Measured:
    """One row with one seed, on the test split.

    Attributes:
      name: of its `ScorerSpec`.
      seed: of its training.
      auc: of the click.
      gauc: likewise.
      log_loss: likewise.
      best_epoch: from 0, chosen on the evaluation split.
      eval_auc: there, at that epoch.
      epoch_seconds: of the processor, per epoch of training.
      scores_file: logits of the test split's rows, float32 [N], as `np.save` writes them.
    """

    name: str
    seed: int
    auc: float
    gauc: float
    log_loss: float
    best_epoch: int
    eval_auc: float
    epoch_seconds: Sequence[float]
    scores_file: str


@dataclasses.dataclass(frozen=True)
class Study:
    """What is compared, and on what.

    Attributes:
      scorers: the rows of the table, each teacher before its students.
      seeds: of every row.
      data_key: everything the data depends on; JSON values.
      machine: what the results depend on besides, see `describe_machine`.
      load_data: prepares and opens the data; called only when something has to be computed.
      fingerprint: a hash of the code of modules.
      folder: keeps the results, the scores and the trained teachers.
    """

    scorers: Sequence[ScorerSpec]
    seeds: Sequence[int]
    data_key: Mapping[str, Any]
    machine: str
    load_data: Callable[[], "StudyData"]
    fingerprint: Callable[..., str]
    folder: Path


def run_study(study: Study, report: Callable[[str], None]) -> tuple[list[Measured], dict[str, Any]]:
    """Trains and measures what is not kept yet; a seed of all rows before the next.

    Args:
      study: what is compared.
      report: told of each result.

    Returns:
      all results, without the leaking rows where the data has nothing that could leak; and
      `StudyData.describe`.
    """
    store = ResultStore(study.folder)
    base = {
        "data": dict(study.data_key),
        "machine": study.machine,
        "code": study.fingerprint(*MODULES),
    }
    facts_key = {**base, "kind": "facts"}
    facts, _ = store.fetch(facts_key, lambda: _describe_data(study, store.path(facts_key)))
    scorers = study.scorers if facts["post_event_seen"] else drop_leaking(study.scorers)
    by_name = {spec.name: spec for spec in scorers}
    results = []
    for seed in study.seeds:
        for spec in scorers:
            key = {**base, "seed": seed, **_describe(spec, by_name)}
            values, was_there = store.fetch(
                key, functools.partial(_train_and_measure, study, store.path(key), spec, by_name, base, seed)
            )
            measured = Measured(**values)
            results.append(measured)
            how = "measured before" if was_there else f"{sum(measured.epoch_seconds):.0f} s of training"
            report(f"{spec.name}, seed {seed}: AUC {measured.auc:.4f}, GAUC {measured.gauc:.4f} ({how})")
    return results, facts


def _describe_data(study: Study, result_file: Path) -> dict[str, Any]:
    """What was measured on; the test split's rows are written beside it."""
    data = study.load_data()
    rows_file = result_file.with_suffix(".npz")
    study.folder.mkdir(parents=True, exist_ok=True)
    np.savez(rows_file, users=data.test_rows.users, clicked=data.test_rows.clicked)
    return {**data.describe(), ROWS_FILE: rows_file.name}


def _describe(spec: ScorerSpec, by_name: Mapping[str, ScorerSpec]) -> dict[str, Any]:
    """All that a row's result depends on, its teacher's settings among it; JSON values."""
    settings = {x.name: getattr(spec, x.name) for x in dataclasses.fields(spec) if x.name != "note"}
    settings = {
        name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]
        for name, value in settings.items()
    }
    if spec.taught_by is not None:
        settings["frozen_teacher"] = _describe(by_name[spec.taught_by], by_name)
    return settings


def _train_and_measure(
    study: Study,
    result_file: Path,
    spec: ScorerSpec,
    by_name: Mapping[str, ScorerSpec],
    base: Mapping[str, Any],
    seed: int,
) -> dict[str, Any]:
    data = study.load_data()

    def weights_file(teaching: ScorerSpec) -> Path:
        key = {**base, "seed": seed, **_describe(teaching, by_name)}
        return ResultStore(study.folder).path(key).with_suffix(".npz")

    taught_by = None
    if spec.taught_by is not None:
        teaching = by_name[spec.taught_by]
        taught_by = teaching, _load_teacher(data, teaching, weights_file(teaching), seed)
    result, training = _train(data, spec, taught_by, seed)
    study.folder.mkdir(parents=True, exist_ok=True)
    if spec.student is None:
        np.savez(weights_file(spec), *result.scorer.get_weights())
    scores = data.score(result.scorer, training)
    scores_file = result_file.with_suffix(".npy")
    np.save(scores_file, scores.astype(np.float32))
    return dataclasses.asdict(
        Measured(
            name=spec.name,
            seed=seed,
            **data.measure(scores),
            best_epoch=result.best_epoch,
            eval_auc=float(result.history["val_auc"][result.best_epoch]),
            epoch_seconds=[round(x, 2) for x in result.epoch_seconds],
            scores_file=scores_file.name,
        )
    )


def _train(
    data: "StudyData", spec: ScorerSpec, taught_by: "tuple[ScorerSpec, FrozenTeacher] | None", seed: int
) -> tuple["TrainingResult", "TrainingData"]:
    """The trained row, and what it was trained on."""
    from trainers.prerank import train

    student, teacher = _reseed(spec.student, seed), _reseed(spec.teacher, seed)
    configs = [config for config in (student, teacher) if config is not None]
    if student is None:
        training = data.read(spec.days, *configs, leaks=spec.leaks)
        return train.train_teacher(teacher, training), training
    if spec.distillation is None:
        training = data.read(spec.days, student)
        return train.train_control(student, training), training
    if taught_by is None:
        training = data.read(spec.days, *configs)
        return train.train_jointly(student, teacher, spec.distillation, training), training
    teaching, frozen = taught_by
    assert teaching.teacher is not None
    training = data.read(spec.days, student, teaching.teacher, leaks=teaching.leaks)
    return train.train_student(student, spec.distillation, training, frozen), training


def _load_teacher(data: "StudyData", spec: ScorerSpec, weights: Path, seed: int) -> "FrozenTeacher":
    """A teacher that an earlier row of the table trained."""
    from trainers.prerank.teachers import build_teacher
    from trainers.scorers.data import flatten
    from trainers.scorers.teaching import freeze

    config = _reseed(spec.teacher, seed)
    training = data.read(spec.days, config, leaks=spec.leaks)
    teacher = build_teacher(training.features, config, training.positive_rates[: len(config.tasks)])
    teacher(flatten(next(iter(training.train))))  # makes the variables
    with np.load(weights) as stored:
        teacher.set_weights([stored[name] for name in stored.files])
    return freeze(teacher, data.cut_ms)


def _reseed(config: Any, seed: int) -> Any:
    return config and dataclasses.replace(config, seed=seed)

"""How long one user's candidates take: the student with item vectors made beforehand, against the teacher."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from benchmarks.prepared_examples import PreparedExamples
from schemas import features as f
from trainers.prerank.config import StudentConfig, TeacherConfig
from trainers.prerank.feature_choice import select_features
from trainers.prerank.model import TwoTowerStudent
from trainers.prerank.teachers import build_teacher
from trainers.scorers.data import REQUEST, TrainingData, flatten
from trainers.scorers.rows import EVAL, TRAIN, RowSource

_WARM_UP = 3
_RATE = 0.1  # where the biases start; how long scoring takes does not depend on weights, so none are trained


def measure_scoring(
    prepared: PreparedExamples,
    student_config: StudentConfig,
    teacher_config: TeacherConfig,
    *,
    candidates: int,
    rounds: int,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Scores the same candidates for one user by both, in turns.

    Both are given features that are transformed already. The student's user vector is made in each round, its
    item vectors are looked up; the teacher scores all candidates in one batch and encodes the history once.

    Args:
      prepared: the rows; the first ones of the training split are the candidates.
      student_config: widths.
      teacher_config: form and widths.
      candidates: how many.
      rounds: how often.
      report: told of what is done.

    Returns:
      `candidates`, `rounds`; `student_ms` and `teacher_ms`, each with `p50`, `p25` and `p75`; `ratio` of the
      medians.

    Raises:
      ValueError: if the training split has fewer rows.
    """
    transform_output = tft.TFTransformOutput(prepared.transform_graph_uri)
    patterns = {split: [f"{prepared.transformed_uri}/Split-{split}/*"] for split in (TRAIN, EVAL)}
    source = RowSource(patterns, transform_output)
    training = source.read(*(select_features(source.features, x) for x in (student_config, teacher_config)))
    if training.num_rows < candidates:
        raise ValueError(
            f"the training split has {training.num_rows:,} rows, expected {candidates:,} for --candidates; "
            "lower it, or give a longer event log"
        )
    inputs = _take(training, candidates)
    seen = select_features(training.features, student_config)
    student = TwoTowerStudent(seen, student_config, [_RATE] * len(student_config.tasks))
    teacher = build_teacher(training.features, teacher_config, [_RATE] * len(teacher_config.tasks))
    items = tf.Variable(student.item_vectors(inputs))
    query = {x.name: inputs[x.name] for x in student.query_features}
    rows = tf.range(candidates)

    @tf.function
    def ask_student(query: Any, rows: tf.Tensor) -> tf.Tensor:
        return student.score_vectors(student.user_vectors(query), tf.gather(items, rows))

    @tf.function
    def ask_teacher(inputs: Any) -> tf.Tensor:
        return teacher(inputs).logits

    report(f"{candidates:,} candidates of one user, {rounds} rounds in turns")
    calls = {"student": lambda: ask_student(query, rows), "teacher": lambda: ask_teacher(inputs)}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(_WARM_UP + rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call().numpy()
            if number >= _WARM_UP:
                times[name].append(1000 * (time.perf_counter() - start))
    result: dict[str, Any] = {"candidates": candidates, "rounds": rounds}
    for name, values in times.items():
        p25, p50, p75 = np.percentile(values, [25, 50, 75])
        result[f"{name}_ms"] = {"p25": float(p25), "p50": float(p50), "p75": float(p75)}
    return {**result, "ratio": result["teacher_ms"]["p50"] / result["student_ms"]["p50"]}


def _take(training: TrainingData, candidates: int) -> dict[str, tf.Tensor]:
    """The first request's query, and the first rows as if they were its candidates."""
    parts: list[dict[str, tf.Tensor]] = []
    for batch in training.train:
        parts.append(flatten(batch))
        if sum(len(part[REQUEST]) for part in parts) >= candidates:
            break
    query = {x.name: parts[0][x.name][:1] for x in training.features if x.role is f.Role.QUERY}
    names = [x.name for x in training.features if x.name not in query]
    rows = {name: tf.concat([part[name] for part in parts], axis=0)[:candidates] for name in names}
    return {**query, **rows, REQUEST: tf.zeros([candidates], tf.int32)}

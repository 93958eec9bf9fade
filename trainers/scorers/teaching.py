"""A teacher that is trained already, and what a student may ask of it."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import tensorflow as tf

from schemas import features as f
from trainers.preprocessing import EncodedFeature
from trainers.scorers.data import (
    IS_ROW,
    ROWS,
    TEACHER_HIDDEN,
    TEACHER_LOGITS,
    Batch,
    TrainingData,
    flatten,
    keep_features,
)
from trainers.scorers.scores import Scores


class TeacherError(ValueError):
    """A teacher from which this student cannot learn; the message says why."""


@dataclasses.dataclass(frozen=True)
class FrozenTeacher:
    """Any scorer of encoded rows: a pre-ranking teacher, or a later stage's ranker.

    Attributes:
      score: maps what `data.flatten` gives to `Scores`.
      tasks: what its logits are of, in order.
      features: names of what it sees.
      until_ms: it has learnt from rows before that time alone.
    """

    score: Callable[[Mapping[str, tf.Tensor]], Scores]
    tasks: Sequence[str]
    features: Collection[str]
    until_ms: int

    def check(self, tasks: Sequence[str], seen: Sequence[EncodedFeature]) -> None:
        """Refuses to teach a student of other labels, or one that sees more.

        Args:
          tasks: the student's.
          seen: by the student.

        Raises:
          TeacherError: naming the labels or features that do not fit.
        """
        if tuple(self.tasks[: len(tasks)]) != tuple(tasks):
            raise TeacherError(
                f"the teacher's labels are {list(self.tasks)}, the student's {list(tasks)}: expected "
                "the student's among the teacher's; set prerank.tasks and prerank_teacher.tasks alike"
            )
        missing = [x.name for x in seen if x.name not in self.features]
        if missing:
            raise TeacherError(
                f"the teacher does not see {', '.join(missing)}, which the student sees: its scores would "
                "miss what the student knows; leave the same groups on for both, see disabled_groups"
            )

    def knows_every_row(self, features: Sequence[EncodedFeature]) -> bool:
        """Whether its logits count on rows without a click too; not where it sees what only a click tells.

        Args:
          features: what the Transform graph made, the teacher's among them.
        """
        after = {x.name for x in features if x.role is f.Role.PRIVILEGED_POST_EVENT}
        return after.isdisjoint(self.features)

    def add_scores(self, batch: Batch) -> Batch:
        """The batch with the teacher's scores among its rows."""
        scores = self.score(flatten(batch))
        is_row = batch[IS_ROW]

        def fold(values: tf.Tensor) -> tf.Tensor:
            shape = tf.concat([tf.shape(is_row), [values.shape[1]]], axis=0)
            folded = tf.scatter_nd(tf.cast(tf.where(is_row), tf.int32), values, shape)
            folded.set_shape([None, is_row.shape[1], values.shape[1]])
            return folded

        added = {TEACHER_LOGITS: fold(scores.logits), TEACHER_HIDDEN: fold(scores.hidden)}
        return {**batch, ROWS: {**batch[ROWS], **added}}


def freeze(teacher: Any, until_ms: int) -> FrozenTeacher:
    """A teacher that was trained in this process.

    Args:
      teacher: with its final weights.
      until_ms: it has learnt from rows before that time alone.
    """
    names = {x.name for x in teacher.features}
    return FrozenTeacher(
        lambda inputs: teacher(inputs, training=False), teacher.config.tasks, names, until_ms
    )


def teach(
    training: TrainingData, teacher: FrozenTeacher, tasks: Sequence[str], seen: Sequence[EncodedFeature]
) -> TrainingData:
    """The rows that a student learns from: what it sees, and what the teacher says of them.

    Args:
      training: rows with what both see, of days that the teacher has not learnt from.
      teacher: what is asked.
      tasks: the student's.
      seen: by the student.

    Raises:
      TeacherError: if the teacher does not fit the student.
    """
    teacher.check(tasks, seen)
    names = [x.name for x in seen]
    rows = training.train.map(
        lambda batch: keep_features(teacher.add_scores(batch), names), num_parallel_calls=tf.data.AUTOTUNE
    )
    return dataclasses.replace(training, train=rows)

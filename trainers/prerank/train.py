"""Training of the scorers, in a fixed order: data, model, optimiser, loop."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from schemas import features as f
from trainers.layers.feature_embedding import EmbeddingTables, PartlySharedTables
from trainers.losses.distillation_config import DistillationConfig
from trainers.preprocessing import EncodedFeature
from trainers.prerank.config import ScorerConfig, StudentConfig, TeacherConfig
from trainers.prerank.feature_choice import select_features
from trainers.prerank.model import TwoTowerStudent
from trainers.prerank.teachers import Teacher, build_teacher
from trainers.scorers.data import TrainingData
from trainers.scorers.fitting import TrainingResult, count_steps, fit
from trainers.scorers.learning import Distillation, ScorerTraining
from trainers.scorers.teaching import FrozenTeacher, freeze, teach

USER_TABLE = f"{f.USER_ID}_index"


def train_teacher(
    config: TeacherConfig, training: TrainingData, log_dir: str | None = None
) -> TrainingResult:
    """Trains a teacher alone.

    Args:
      config: its form, widths and training.
      training: the rows.
      log_dir: for TensorBoard; None logs nothing.

    Raises:
      ValueError: see `feature_choice.select_features`.
    """
    tf.keras.utils.set_random_seed(config.seed)
    return fit(
        ScorerTraining(build_teacher(training.features, config, _rates(config, training))),
        config,
        training,
        log_dir,
    )


def train_control(
    config: StudentConfig, training: TrainingData, log_dir: str | None = None
) -> TrainingResult:
    """Trains a student without a teacher; see `train_teacher`."""
    tf.keras.utils.set_random_seed(config.seed)
    return fit(ScorerTraining(_build_student(config, training)), config, training, log_dir)


def train_student(
    config: StudentConfig,
    distillation: DistillationConfig,
    training: TrainingData,
    teacher: FrozenTeacher,
    log_dir: str | None = None,
) -> TrainingResult:
    """Trains a student from a frozen teacher: mode `two_stage`; see `train_teacher`.

    Args:
      config: the student's widths and training.
      distillation: what it learns from the teacher.
      training: the rows, of days that the teacher has not learnt from.
      teacher: what is asked.
      log_dir: for TensorBoard; None logs nothing.

    Raises:
      TeacherError: if the teacher does not fit the student.
    """
    tf.keras.utils.set_random_seed(config.seed)
    training_rows = teach(training, teacher, config.tasks, select_features(training.features, config))
    student = _build_student(config, training)
    model = Distillation(student, distillation, soft_on_every_row=teacher.knows_every_row(training.features))
    return fit(model, config, training_rows, log_dir)


def train_jointly(
    config: StudentConfig,
    teacher_config: TeacherConfig,
    distillation: DistillationConfig,
    training: TrainingData,
    log_dir: str | None = None,
) -> TrainingResult:
    """Trains teacher and student at once: mode `joint`; see `train_teacher`.

    Args:
      config: the student's widths, and the training of both.
      teacher_config: the teacher's form and widths.
      distillation: what the student learns from the teacher, and which embeddings it shares.
      training: the rows.
      log_dir: for TensorBoard; None logs nothing.

    Raises:
      TeacherError: if the teacher does not fit the student.
      ValueError: see `feature_choice.select_features`; or if embeddings of different widths shall be shared.
    """
    tf.keras.utils.set_random_seed(config.seed)
    teacher = build_teacher(training.features, teacher_config, _rates(teacher_config, training))
    frozen = freeze(teacher, until_ms=0)
    frozen.check(config.tasks, select_features(training.features, config))
    tables = _share_tables(teacher, config, teacher_config, distillation, training.features)
    warm_up_steps = int(distillation.warm_up_fraction * count_steps(config, training))
    model = Distillation(
        _build_student(config, training, tables),
        distillation,
        soft_on_every_row=frozen.knows_every_row(training.features),
        warm_up_steps=warm_up_steps,
        teacher=teacher,
    )
    return fit(model, config, training, log_dir)


def _share_tables(
    teacher: Teacher,
    config: StudentConfig,
    teacher_config: TeacherConfig,
    distillation: DistillationConfig,
    features: Sequence[EncodedFeature],
) -> EmbeddingTables | PartlySharedTables | None:
    """The student's embeddings, as far as they are the teacher's; None where it has its own."""
    if distillation.sharing == "none":
        return None
    if config.embedding_dim != teacher_config.embedding_dim:
        raise ValueError(
            f"distillation.sharing {distillation.sharing!r} needs embeddings of one width: "
            f"prerank.embedding_dim is {config.embedding_dim}, "
            f"prerank_teacher.embedding_dim {teacher_config.embedding_dim}"
        )
    if distillation.sharing == "all":
        return teacher.tables
    own = {x.table: x.size for x in select_features(features, config) if x.table == USER_TABLE}
    return PartlySharedTables(EmbeddingTables(own, config.embedding_dim, name="own_tables"), teacher.tables)


def _build_student(config: StudentConfig, training: TrainingData, tables: Any = None) -> TwoTowerStudent:
    return TwoTowerStudent(
        select_features(training.features, config), config, _rates(config, training), tables
    )


def _rates(config: ScorerConfig, training: TrainingData) -> Sequence[float]:
    return training.positive_rates[: len(config.tasks)]

"""The scorers that the study trains: control, teachers, and students of every form.

TensorFlow is not imported here: a study whose results are all there reads this list and nothing else.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from pipelines.config import ConfigError
from trainers.losses.distillation_config import DistillationConfig, DistillationLossConfig
from trainers.prerank.config import TASKS, StudentConfig, TeacherConfig

CONTROL = "control"
CONTROL_ALL_DAYS = "control, all days"
TEACHER = "teacher"
TEACHER_ALL_DAYS = "teacher, all days"
STUDENT = "pfd+md"
LEAK = "leaking"
LEAKING_TEACHER = f"teacher, {LEAK}"
TWO_TASKS = "two tasks"
TWO_TASKS_TEACHER = f"teacher, {TWO_TASKS}"
_WEIGHTS = (0.25, 0.5, 0.75, 0.9, 1.0)
JOINT_ALL_BUT_USER_ID = "joint, all but user id"


@dataclasses.dataclass(frozen=True)
class ScorerSpec:
    """One row of the table.

    Attributes:
      name: what the row is called.
      days: `late` are the student's days, `early` its two-stage teacher's, `all` both.
      student: of a control or student.
      teacher: of a teacher, or of a student trained along with one.
      taught_by: the row that is the frozen teacher of a two-stage student.
      distillation: what a student learns.
      leaks: whether the teacher is told how long the user looked, which tells it the label.
      note: what a reader must know to read the row.
    """

    name: str
    days: Literal["early", "late", "all"]
    student: StudentConfig | None = None
    teacher: TeacherConfig | None = None
    taught_by: str | None = None
    distillation: DistillationConfig | None = None
    leaks: bool = False
    note: str = ""


def list_scorers(
    student: StudentConfig, teacher: TeacherConfig, distillation: DistillationConfig, *, full: bool
) -> list[ScorerSpec]:
    """The table's rows, each teacher before its students.

    Args:
      student: of control and students.
      teacher: its form is replaced row by row.
      distillation: what the row `STUDENT` learns; the others change one thing of it.
      full: whether the whole grid is trained.

    Raises:
      ConfigError: if student and teacher have embeddings of different widths, which no row could share.
    """
    _check_widths(student, teacher)
    teacher = dataclasses.replace(teacher, form="pfd_md")
    distillation = dataclasses.replace(distillation, mode="two_stage", sharing="none")

    def teach(name: str, days: Any = "early", **changes: Any) -> ScorerSpec:
        leaks = changes.pop("leaks", False)
        return ScorerSpec(name, days, teacher=dataclasses.replace(teacher, **changes), leaks=leaks)

    def learn(name: str, taught_by: str = TEACHER, tasks: Any = student.tasks, **changes: Any) -> ScorerSpec:
        learner = dataclasses.replace(student, tasks=tasks)
        config = dataclasses.replace(distillation, **changes)
        return ScorerSpec(name, "late", learner, taught_by=taught_by, distillation=config)

    def join(name: str, **changes: Any) -> ScorerSpec:
        config = dataclasses.replace(distillation, mode="joint", **changes)
        return ScorerSpec(name, "all", student, teacher, distillation=config)

    def alone(form: Any, **parameters: Any) -> dict[str, Any]:
        return {"losses": (DistillationLossConfig(form, **parameters),)}

    def beside_logits(form: Any) -> dict[str, Any]:
        return {"losses": (DistillationLossConfig("logits"), DistillationLossConfig(form, weight=0.1))}

    rows = [
        ScorerSpec(CONTROL, "late", student),
        ScorerSpec(CONTROL_ALL_DAYS, "all", student, note="trained on the teacher's days too"),
        teach(TEACHER),
        learn(STUDENT),
        teach("teacher, md", form="md"),
        learn("md", "teacher, md"),
        teach("teacher, pfd", form="pfd"),
        learn("pfd", "teacher, pfd"),
        teach(LEAKING_TEACHER, leaks=True),
        learn(f"pfd+md, {LEAK}", LEAKING_TEACHER),
        learn("logits", **alone("logits")),
        learn("pairwise ranking", **alone("pairwise_ranking")),
        learn("listwise ranking", **alone("listwise_ranking")),
        learn("hidden layer", **beside_logits("hidden")),
        join("joint, nothing shared"),
        join(JOINT_ALL_BUT_USER_ID, sharing="all_but_user_id"),
    ]
    if full:
        rows += [
            teach(TEACHER_ALL_DAYS, "all"),
            *(learn(f"λ = {x:g}", weight=x) for x in _WEIGHTS if x != distillation.weight),
            *(
                learn(f"T = {t}", losses=(DistillationLossConfig("logits", temperature=t),))
                for t in (2.0, 5.0)
            ),
            learn("pointwise ranking", **alone("pointwise_ranking", top_k=3)),
            learn("contrastive", **beside_logits("contrastive")),
            join("joint, all shared", sharing="all"),
            join("rocket launching", sharing="all", **alone("rocket_launching")),
            teach(TWO_TASKS_TEACHER, tasks=TASKS),
            learn(
                f"{TWO_TASKS}, multi-target",
                TWO_TASKS_TEACHER,
                TASKS,
                **alone("multi_target", soft_weights=(1.0,) * len(TASKS)),
            ),
        ]
    return rows


def _check_widths(student: StudentConfig, teacher: TeacherConfig) -> None:
    if student.embedding_dim != teacher.embedding_dim:
        raise ConfigError(
            f"prerank.embedding_dim is {student.embedding_dim} and prerank_teacher.embedding_dim "
            f"{teacher.embedding_dim}: in some rows of the study both share their embeddings, which takes "
            "one width. Set the two alike."
        )


def drop_leaking(scorers: Sequence[ScorerSpec]) -> list[ScorerSpec]:
    """The rows without teachers that are told too much, and without their students."""
    leaking = {spec.name for spec in scorers if spec.leaks}
    return [spec for spec in scorers if leaking.isdisjoint((spec.name, spec.taught_by))]

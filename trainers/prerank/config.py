"""What of the pre-ranking models can be chosen."""

import dataclasses
from typing import Annotated, Literal, get_args

from pydantic import Field

from trainers.config import Fraction, Positive, TowersShape
from trainers.scorers.config import FittingConfig

Task = Literal["clicked", "converted"]
TASKS = get_args(Task)


@dataclasses.dataclass(frozen=True)
class ScorerConfig(FittingConfig, TowersShape):
    """What student, control and teacher have in common: the data, the towers' widths and the training."""

    # What is learnt: the probability of a click; or that, and of a conversion given a click
    tasks: tuple[Task, ...] = ("clicked",)

    # Architecture
    num_history_heads: Positive = 2

    # Dropout
    dropout: Fraction = 0.2
    query_dropout: Fraction = 0.3
    event_dropout: Fraction = 0.1  # share of the history's events left out

    def __post_init__(self) -> None:
        if tuple(self.tasks) != TASKS[: len(self.tasks)] or not self.tasks:
            raise ValueError(f"tasks: expected [clicked] or [clicked, converted], got {list(self.tasks)}")


@dataclasses.dataclass(frozen=True)
class StudentConfig(ScorerConfig):
    """The two-tower student, and the control, which is the same without a teacher."""

    depth: Positive = 200  # candidates the funnel asks pre-ranking for


@dataclasses.dataclass(frozen=True)
class TeacherConfig(ScorerConfig):
    """The teacher.

    `form` says what it is more than the student: `md` a bigger model on the same features (Wide&Deep), `pfd`
    the student's own structure with the privileged features, `pfd_md` Wide&Deep with them (Xu et al. 2020,
    section 4). `hidden_dims` are the towers', which `pfd` alone has.
    """

    form: Literal["md", "pfd", "pfd_md"] = "pfd_md"
    # Of the MLP; the last is the hidden layer that may be distilled
    deep_dims: tuple[Positive, ...] = (128, 64)
    max_epochs: Positive = 2  # what it sees more it learns by heart
    # Oldest share of the training split's days that a two-stage teacher learns from; the student has the rest
    days_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.5

"""What of the pre-ranking models can be chosen."""

import dataclasses
from typing import Annotated, Literal, get_args

from pydantic import Field

from trainers.config import Decay, Fraction, Positive, Rate, TowersShape
from trainers.losses.distillation_config import DistillationLossConfig

Task = Literal["clicked", "converted"]
TASKS = get_args(Task)


@dataclasses.dataclass(frozen=True)
class ScorerConfig(TowersShape):
    """What student, control and teacher have in common: the data, the towers' widths and the training."""

    # What is learnt: the probability of a click; or that, and of a conversion given a click
    tasks: tuple[Task, ...] = ("clicked",)

    # Architecture
    num_history_heads: Positive = 2

    # Training
    batch_size: Positive = 1024  # shown rows, of whole requests
    max_epochs: Positive = 4
    patience_epochs: Positive = 1  # without a better log loss on the evaluation split
    learning_rate: Rate = 2e-3
    weight_decay: Decay = 0.5  # decoupled (AdamW), so times the learning rate
    weight_averaging: Fraction = 0.99  # momentum of the weights' moving average, which is what is kept
    dropout: Fraction = 0.2
    query_dropout: Fraction = 0.3
    event_dropout: Fraction = 0.1  # share of the history's events left out
    seed: int = 1

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


@dataclasses.dataclass(frozen=True)
class DistillationConfig:
    """How the student learns from the teacher: (1 - λ) · hard + λ · Σ weight · form.

    Attributes:
      mode: `two_stage` trains the teacher first, on other days, and freezes it; `joint` trains both at once.
      weight: λ.
      losses: the forms and their shares.
      sharing: which embeddings the student has from the teacher; `joint` only.
      warm_up_fraction: share of the steps in which the student learns from labels alone; `joint` only.
    """

    mode: Literal["two_stage", "joint"] = "two_stage"
    weight: Annotated[float, Field(ge=0, le=1)] = 0.9
    # How likely a click is, and, which is what the student is asked for, which item is before which
    losses: tuple[DistillationLossConfig, ...] = (
        DistillationLossConfig("logits"),
        DistillationLossConfig("pairwise_ranking", weight=0.3),
    )
    sharing: Literal["none", "all", "all_but_user_id"] = "none"
    warm_up_fraction: Fraction = 0.1

    def __post_init__(self) -> None:
        if not self.losses:
            raise ValueError("losses: expected at least one form")
        if sum(loss.form == "multi_target" for loss in self.losses) > 1:
            raise ValueError(
                "losses: expected multi_target once: its soft_weights are the labels' shares too"
            )
        if self.mode == "two_stage" and self.sharing != "none":
            raise ValueError(
                f"sharing {self.sharing!r} needs mode 'joint': a teacher that is trained first shares nothing"
            )

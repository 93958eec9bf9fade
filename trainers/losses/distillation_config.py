"""What of the distillation losses can be chosen. Importing this does not import TensorFlow."""

import dataclasses
import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import BeforeValidator, ConfigDict, Field

from trainers.config import Fraction, Positive

if TYPE_CHECKING:
    from trainers.losses.distillation import DistillationForm

Form = Literal[
    "logits",
    "multi_target",
    "rocket_launching",
    "pointwise_ranking",
    "pairwise_ranking",
    "listwise_ranking",
    "hidden",
    "contrastive",
]

_PARAMETERS: dict[str, tuple[str, ...]] = {
    "logits": ("temperature",),
    "multi_target": ("soft_weights",),
    "pointwise_ranking": ("top_k",),
    "listwise_ranking": ("temperature",),
    "contrastive": ("temperature",),
}
_WITH_DEFAULT = ("temperature",)  # the layer's own


def _check_form(form: object) -> object:
    known = get_args(Form)
    if form not in known:
        nearest = difflib.get_close_matches(str(form), known, n=1, cutoff=0.0)[0]
        raise ValueError(f"unknown form {form!r}. Did you mean {nearest!r}? Known: {', '.join(known)}")
    return form


@dataclasses.dataclass(frozen=True)
class DistillationLossConfig:
    """One form of distillation and its share of the loss; the parameters are those its form takes."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    form: Annotated[Form, BeforeValidator(_check_form)]
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    # Of logits and listwise_ranking (1 without) and of contrastive (0.1 without)
    temperature: Annotated[float, Field(gt=0, le=100)] | None = None
    top_k: Positive | None = None  # of pointwise_ranking, which needs it
    # Of multi_target, which needs it: a task each, the hard loss has the rest of 1
    soft_weights: tuple[Annotated[float, Field(ge=0, le=1)], ...] | None = None

    def __post_init__(self) -> None:
        _check_form(self.form)
        takes = _PARAMETERS.get(self.form, ())
        for name in ("temperature", "top_k", "soft_weights"):
            given = getattr(self, name) is not None
            if given and name not in takes:
                raise ValueError(
                    f"form {self.form!r} takes no {name}: leave it out. "
                    f"What it takes: {', '.join(('weight', *takes))}"
                )
            if not given and name in takes and name not in _WITH_DEFAULT:
                raise ValueError(f"form {self.form!r} needs {name}")


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


def build_losses(
    configs: Sequence[DistillationLossConfig],
) -> "list[tuple[float, DistillationForm]]":
    """Builds the layers that `configs` names.

    Returns:
      (weight, layer) of each. What weights a layer has
      are made by its first call.
    """
    from trainers.losses import distillation, distillation_ranking, distillation_vectors

    layers = {
        "logits": distillation.LogitsDistillation,
        "multi_target": distillation.MultiTargetKL,
        "rocket_launching": distillation.RocketLaunching,
        "pointwise_ranking": distillation_ranking.PointwiseRanking,
        "pairwise_ranking": distillation_ranking.PairwiseRanking,
        "listwise_ranking": distillation_ranking.ListwiseRanking,
        "hidden": distillation_vectors.HiddenDistillation,
        "contrastive": distillation_vectors.ContrastiveAlignment,
    }
    losses = []
    for i, config in enumerate(configs):
        given = {name: getattr(config, name) for name in _PARAMETERS.get(config.form, ())}
        parameters = {name: value for name, value in given.items() if value is not None}
        losses.append((config.weight, layers[config.form](**parameters, name=f"{config.form}_{i}")))
    return losses

"""The configuration of a run: frozen dataclasses, filled from a YAML file that may name any part of them."""

import dataclasses
import difflib
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from trainers.config import Fraction, Positive
from trainers.losses.distillation_config import DistillationConfig, DistillationLossConfig
from trainers.prerank.config import StudentConfig, TeacherConfig
from trainers.ranking.config import RankerConfig
from trainers.retrieval.config import ItemToItemConfig, RetrievalConfig


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the file, the key and what was expected."""


@dataclasses.dataclass(frozen=True)
class SplitConfig:
    """Shares of the rows, by time and in whole days; the rest, the oldest, is for training."""

    eval_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1

    def __post_init__(self) -> None:
        if self.eval_fraction + self.test_fraction >= 1.0:
            raise ValueError(
                "eval_fraction and test_fraction together must be less than 1: training needs rows"
            )


@dataclasses.dataclass(frozen=True)
class NegativesConfig:
    """Rows that were not clicked, for a log whose shown rows all were: ratings, reviews.

    Pre-ranking needs them; see `components.event_ingest.negatives`.
    """

    per_click: Annotated[int, Field(ge=0, le=20)] = 4


def _default_crosses() -> dict[str, int]:
    """Sized for the simulated marketplace's 1,000 users, 8,000 items and 2,000 shops.

    Each has more rows than its pairs occur in a default log: of the millions of pairs of user_id and item_id
    157,000 do, of user_id and shop_id 118,000.
    """
    return {
        "gender x occupation": 256,
        "city x device": 256,
        "category x brand": 2048,
        "gender x category": 256,
        "occupation x brand": 8192,
        "user_id x category": 32_768,
        "user_id x shop_id": 262_144,
        "user_id x item_id": 262_144,
    }


@dataclasses.dataclass(frozen=True)
class TransformConfig:
    """Hashed crosses of single-valued features, and how many rows each one's table has (row 0: unknown).

    A source that lacks a feature of a default cross does without it; see `pipelines.crosses`.
    """

    crosses: dict[str, Annotated[int, Field(ge=2)]] = dataclasses.field(default_factory=_default_crosses)


@dataclasses.dataclass(frozen=True)
class IndexConfig:
    """The ScaNN index and what it must reach to be pushed."""

    depth: Positive = 500  # candidates the funnel asks retrieval for
    target_recall: Annotated[float, Field(gt=0, le=1)] = 0.99  # what the builder tunes for
    min_recall: Annotated[float, Field(gt=0, le=1)] = 0.95  # gate, against the exact index at `depth`
    max_latency_ms: Annotated[float, Field(gt=0)] = 20.0  # gate, median of one query on one thread


@dataclasses.dataclass(frozen=True)
class GateConfig:
    """What the models must reach on the test split to be pushed."""

    min_recall_100: Fraction = 0.02
    live_tolerance: Annotated[float, Field(ge=0)] = 0.02  # recall@100 it may lose against what is live
    # The same of the similar items against popularity: they are asked fewer queries, of fewer users
    item_to_item_tolerance: Annotated[float, Field(ge=0)] = 0.02
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95  # one-sided, of the paired bootstrap
    bootstrap_samples: Positive = 2000
    exclude_seen: bool = True  # rank without what the user clicked before
    # Of pre-ranking and of ranking: AUC on the shown rows
    min_auc: Fraction = 0.55
    control_tolerance: Annotated[float, Field(ge=0)] = 0.005  # the student may lose against no teacher
    prerank_tolerance: Annotated[float, Field(ge=0)] = 0.01  # the ranker against the student
    live_auc_tolerance: Annotated[float, Field(ge=0)] = 0.01  # each against what is live
    max_calibration_error: Annotated[float, Field(gt=0)] = 0.5  # |mean prediction / mean label - 1|


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything a run can be told."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    splits: SplitConfig = dataclasses.field(default_factory=SplitConfig)
    negatives: NegativesConfig = dataclasses.field(default_factory=NegativesConfig)
    transform: TransformConfig = dataclasses.field(default_factory=TransformConfig)
    retrieval: RetrievalConfig = dataclasses.field(default_factory=RetrievalConfig)
    item_to_item: ItemToItemConfig = dataclasses.field(default_factory=ItemToItemConfig)
    index: IndexConfig = dataclasses.field(default_factory=IndexConfig)
    prerank: StudentConfig = dataclasses.field(default_factory=StudentConfig)
    prerank_teacher: TeacherConfig = dataclasses.field(default_factory=TeacherConfig)
    distillation: DistillationConfig = dataclasses.field(default_factory=DistillationConfig)
    ranking: RankerConfig = dataclasses.field(default_factory=RankerConfig)
    gates: GateConfig = dataclasses.field(default_factory=GateConfig)


for _section in (
    SplitConfig,
    NegativesConfig,
    TransformConfig,
    RetrievalConfig,
    ItemToItemConfig,
    IndexConfig,
    StudentConfig,
    TeacherConfig,
    DistillationConfig,
    DistillationLossConfig,
    RankerConfig,
    GateConfig,
):
    _section.__pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[union-attr]


def load_config(path: str | Path | None) -> RunConfig:
    """Reads a YAML file over the defaults.

    Args:
      path: the file, or None for the defaults.

    Raises:
      ConfigError: if the file cannot be read, a key is unknown (the nearest known one is named) or a
        value is not what its key takes.
    """
    if path is None:
        return RunConfig()
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(
            f"{path}{line}: {error.problem}. Expected YAML; see docs/configuration.md."
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}. Expected a YAML file; see docs/configuration.md.") from error
    try:
        return TypeAdapter(RunConfig).validate_python({} if content is None else content)
    except ValidationError as error:
        raise ConfigError("\n".join(_describe(path, detail) for detail in error.errors())) from error


def _describe(path: str | Path, detail: Any) -> str:
    """One error of pydantic's as a line that names the file, the key and what to do."""
    *parents, key = detail["loc"] or ("",)
    where = f"{path}: {'.'.join(map(str, detail['loc'])) or 'top level'}"
    if detail["type"] == "unexpected_keyword_argument":
        section: Any = RunConfig()
        for parent in parents:  # an element of a list is described by that of its default
            section = section[0] if isinstance(parent, int) else getattr(section, str(parent))
        known = [field.name for field in dataclasses.fields(section)]
        nearest = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)[0]
        return f"{where}: unknown key. Did you mean {nearest!r}? Known: {', '.join(known)}."
    message = detail["msg"].removeprefix("Value error, ")  # what pydantic puts before this project's own
    if detail["type"] == "value_error" and isinstance(detail["input"], dict):
        return f"{where}: {message}."  # of a section: it says itself what was found
    return f"{where}: {message}, got {detail['input']!r}."

"""Feature names and roles, read from the curated schemas; each name stands here or in a .pbtxt, once.

A feature is one entry in one .pbtxt. Its annotation tags say what the pipeline does with it:

    role=query|candidate|key|label|privileged|privileged_post_event
    group=<name>              features that a model's `disabled_groups` switches off together
    encode=<encoding>[:size]  how `trainers/preprocessing.py` turns it into numbers; may repeat

A privileged feature whose name is an `Interaction`'s is no column of a log: ingestion computes it.
"""

import dataclasses
import enum
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

USER_ID = "user_id"
ITEM_ID = "item_id"
TIMESTAMP = "timestamp"
TITLE = "title"
CATEGORY = "category"
REQUEST_ID = "request_id"
POSITION = "position"
CLICKED = "clicked"
CONVERTED = "converted"
DWELL_SECONDS = "dwell_seconds"
HISTORY_PREFIX = "history_"
HISTORY_ITEM_ID = HISTORY_PREFIX + ITEM_ID
HISTORY_TIMESTAMP = HISTORY_PREFIX + TIMESTAMP
ANCHOR_PREFIX = "anchor_"  # the item that another item is the answer to
CANDIDATE_PREFIX = "candidate_"
HISTORY_SIZE = 50
CROSS_SEPARATOR = "_x_"  # between the names of a cross' features in that of the cross

_FOLDER = Path(__file__).parent
_PARTS = {
    "impression": ("query", "item", "impression"),
    "page": ("query", "page"),
    "item": ("item",),
}


class ExampleType(str, enum.Enum):
    """The three kinds of example that come out of ingestion."""

    IMPRESSION = "impression"
    PAGE = "page"
    ITEM = "item"


class Role(str, enum.Enum):
    """What a feature is to the models."""

    QUERY = "query"
    CANDIDATE = "candidate"
    CROSS = "cross"  # of both sides; made in Transform, so no schema's
    KEY = "key"
    LABEL = "label"
    PRIVILEGED = "privileged"  # known before the request, but of a user and an item together: a teacher's
    PRIVILEGED_POST_EVENT = "privileged_post_event"  # known after the click: the conversions' teacher's


SCHEMA_ROLES = tuple(role for role in Role if role is not Role.CROSS)


class Statistic(str, enum.Enum):
    """What is known of a user's dealings with the items that share a value, before a point in time."""

    CLICKS = "clicks"
    IMPRESSIONS = "impressions"
    CLICK_AGE_SECONDS = "click_age_seconds"  # since the newest of the clicks became known


@dataclasses.dataclass(frozen=True)
class Interaction:
    """A statistic of a user's dealings with the items that share the row's value of a column.

    Attributes:
      column: an item's, e.g. shop_id.
      statistic: which.
    """

    column: str
    statistic: Statistic

    @property
    def name(self) -> str:
        """The feature, e.g. user_shop_id_clicks."""
        return f"user_{self.column}_{self.statistic.value}"


_INTERACTION = re.compile(f"user_(.+)_({'|'.join(statistic.value for statistic in Statistic)})")


@dataclasses.dataclass(frozen=True)
class Encoding:
    """One way to turn a raw feature into numbers; `size` is what the encoding bounds, 0 where nothing."""

    name: str
    size: int = 0


@dataclasses.dataclass(frozen=True)
class Feature:
    """A raw feature as the schema declares it."""

    name: str
    role: Role
    group: str
    encodings: tuple[Encoding, ...]
    type: int  # schema_pb2.FeatureType
    is_scalar: bool  # present in every example, exactly one value
    is_list: bool  # any number of values


def source_names() -> list[str]:
    """The sources that have a schema of their own, and "core" for those that need none."""
    return sorted(p.name for p in _FOLDER.iterdir() if p.is_dir() and list(p.glob("*.pbtxt")))


def load_schema(source: str, example_type: str) -> schema_pb2.Schema:
    """The curated schema of one example type: the core's parts and what the source adds to each.

    Args:
      source: a folder of `schemas/`, or the path of a folder laid out like one.
      example_type: a value of `ExampleType`.

    Raises:
      ValueError: if there is no such source, or two parts declare the same feature.
    """
    folder = _FOLDER / source if source in source_names() else Path(source)
    if not folder.is_dir():
        raise ValueError(f"schema {source!r}: expected one of {', '.join(source_names())}, or a folder")
    schema = schema_pb2.Schema()
    for part in _PARTS[ExampleType(example_type).value]:
        for path in dict.fromkeys((_FOLDER / "core" / f"{part}.pbtxt", folder / f"{part}.pbtxt")):
            if path.exists():
                text_format.Merge(path.read_text(encoding="utf-8"), schema)
    names = [feature.name for feature in schema.feature]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"schema {source!r}, {example_type}: feature {name!r} is declared twice")
    return schema


def write_schema(source: str, example_type: str, folder: Path) -> Path:
    """Writes a merged schema under a name that carries its content's hash (TFX caches by path).

    Returns:
      the file's path.
    """
    text = text_format.MessageToString(load_schema(source, example_type))
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    path = folder / f"{example_type}-{digest}.pbtxt"
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        staging = path.with_suffix(".tmp")
        staging.write_text(text, encoding="utf-8")
        staging.rename(path)
    return path


def read_features(schema: schema_pb2.Schema, *roles: Role) -> tuple[Feature, ...]:
    """The features of a schema, in its order; those of the given roles, or all.

    Raises:
      ValueError: if a feature has no role or a tag cannot be read.
    """
    features = (_read_feature(feature) for feature in schema.feature)
    return tuple(feature for feature in features if not roles or feature.role in roles)


def history_columns(schema: schema_pb2.Schema) -> tuple[str, ...]:
    """The item columns that the schema wants of each click of a history, e.g. item_id and category."""
    names = (x.name for x in schema.feature if x.name.startswith(HISTORY_PREFIX))
    return tuple(name.removeprefix(HISTORY_PREFIX) for name in names if name != HISTORY_TIMESTAMP)


def parse_interaction(name: str) -> Interaction | None:
    """The interaction that a feature's name stands for; None where it stands for none."""
    match = _INTERACTION.fullmatch(name)
    return Interaction(match[1], Statistic(match[2])) if match else None


def read_interactions(schema: schema_pb2.Schema) -> tuple[Interaction, ...]:
    """The interactions that a schema wants computed: privileged features with an interaction's name."""
    names = (feature.name for feature in read_features(schema, Role.PRIVILEGED))
    return tuple(interaction for name in names if (interaction := parse_interaction(name)))


def split_cross(cross: str) -> tuple[str, ...]:
    """The features of a cross written as "user_id x item_id"."""
    return tuple(cross.split(" x "))


def cross_output(parts: Sequence[str]) -> str:
    """What Transform calls a cross."""
    return f"{CROSS_SEPARATOR.join(parts)}_hash"


def split_cross_output(name: str) -> list[str]:
    """The features of a cross by what Transform calls it."""
    return name.removesuffix("_hash").split(CROSS_SEPARATOR)


def _read_feature(proto: schema_pb2.Feature) -> Feature:
    role, group, encodings = None, "", []
    for tag in proto.annotation.tag:
        key, _, value = tag.partition("=")
        if key == "role":
            role = Role(value)
            if role not in SCHEMA_ROLES:
                raise ValueError(f"feature {proto.name!r}: role={value} is of what Transform makes alone")
        elif key == "group":
            group = value
        elif key == "encode":
            name, _, size = value.partition(":")
            encodings.append(Encoding(name, int(size or 0)))
        else:
            raise ValueError(f"feature {proto.name!r}: unknown tag {tag!r}; expected role=, group=, encode=")
    if role is None:
        roles = [role.value for role in SCHEMA_ROLES]
        raise ValueError(f"feature {proto.name!r}: no role= tag; expected one of {roles}")
    return Feature(
        name=proto.name,
        role=role,
        group=group,
        encodings=tuple(encodings),
        type=proto.type,
        is_scalar=proto.HasField("shape"),
        is_list=not proto.HasField("shape") and proto.value_count.max != 1,
    )

"""Whether a schema can be read and describes the columns of an event log, checked before it is imported."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from schemas import features as f
from sources.event_log import EventLog, EventLogError
from sources.parquet_files import read_layout

_CORE = "core"
_PARTS = ("query", "item", "impression", "page")
_NUMBERS = (schema_pb2.INT, schema_pb2.FLOAT)

# What `trainers/preprocessing.py` can encode, which takes TensorFlow to import: the types, whether a size
# is needed.
ENCODINGS = {
    "vocabulary": ((schema_pb2.BYTES, schema_pb2.INT), False),
    "text": ((schema_pb2.BYTES,), True),
    "hash": ((schema_pb2.BYTES,), True),
    "bucketize": (_NUMBERS, True),
    "zscore": (_NUMBERS, False),
    "log2": (_NUMBERS, True),
    "log_zscore": (_NUMBERS, False),
    "calendar": ((schema_pb2.INT,), False),
    "age": ((schema_pb2.INT,), False),
}

_TAGS = (
    f"Expected tags role={'|'.join(role.value for role in f.SCHEMA_ROLES)}, group=<name> and "
    f"encode={'|'.join(ENCODINGS)}, a size after a colon"
)


def check_schema(log: EventLog, schema: str) -> None:
    """Checks a schema by itself and against the columns of an event log.

    A source's schema under `schemas/` may name columns that a log lacks, since not every data set of the
    source has them; a folder of one's own may not.

    Args:
      log: the event log, of which the layouts are read.
      schema: a folder under `schemas/`, or the path of one like it.

    Raises:
      EventLogError: if a file of the schema cannot be read, or a feature has tags that nothing
        understands, no column, or a type that is not the column's.
    """
    if schema == _CORE:
        return  # its columns are the contract's, which the import checks
    if schema in f.source_names():
        folder, is_own = Path(f.__file__).parent / schema, False
    else:
        folder, is_own = Path(schema), True
    if not folder.is_dir():
        raise EventLogError(
            f"schema {schema!r}: no such folder. Expected one of {', '.join(f.source_names())}, or the "
            "path of a folder; give it as --schema."
        )
    paths = sorted(folder.glob("*.pbtxt"))
    if not paths:
        raise EventLogError(
            f"{folder}: holds no .pbtxt file. Expected one or more of "
            f"{', '.join(f'{part}.pbtxt' for part in _PARTS)}; write them like those under schemas/."
        )
    columns = _read_columns(log)
    for path in paths:
        if path.stem not in _PARTS:
            raise EventLogError(
                f"{path}: expected one of {', '.join(f'{part}.pbtxt' for part in _PARTS)}, which say what a "
                "feature belongs to. Rename it, or move it away."
            )
        for proto in _parse(path).feature:
            _check_feature(path, proto, columns[path.stem], is_own)
    for example_type in f.ExampleType:
        try:
            f.load_schema(schema, example_type)
        except ValueError as error:
            raise EventLogError(f"{error}. Expected every feature once, the core's included.") from error


def _read_columns(log: EventLog) -> dict[str, dict[str, pa.DataType]]:
    """The columns that the features of each part of a schema can be read from."""
    users, items, impressions = (
        {field.name: field.type for field in read_layout(path)[0]}
        for path in (log.users_path, log.items_path, next(iter(log.partitions().values()))[0])
    )
    history = {f.HISTORY_PREFIX + name: type_ for name, type_ in {**items, **impressions}.items()}
    query = {**users, **impressions, **history}
    return {"query": query, "item": items, "impression": {**items, **query}, "page": {**items, **query}}


def _parse(path: Path) -> schema_pb2.Schema:
    try:
        return text_format.Merge(path.read_text(encoding="utf-8"), schema_pb2.Schema())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise EventLogError(
            f"{path}: cannot be read ({error}). Expected a schema in protobuf's text format; write it like "
            "those under schemas/."
        ) from error


def _check_feature(
    path: Path, proto: schema_pb2.Feature, columns: Mapping[str, pa.DataType], needs_column: bool
) -> None:
    place = f"{path}, feature {proto.name!r}"
    try:
        (feature,) = f.read_features(schema_pb2.Schema(feature=[proto]))
    except ValueError as error:
        raise EventLogError(f"{place}: {error}. {_TAGS}; correct the tags.") from error
    type_name = schema_pb2.FeatureType.Name(feature.type)
    if feature.type not in (schema_pb2.BYTES, *_NUMBERS):
        raise EventLogError(f"{place}: expected type BYTES, INT or FLOAT, got {type_name}. Give it its type.")
    for encoding in feature.encodings:
        if encoding.name not in ENCODINGS:
            raise EventLogError(f"{place}: unknown encoding {encoding.name!r}. {_TAGS}; correct the tags.")
        types, needs_size = ENCODINGS[encoding.name]
        if feature.type not in types:
            names = " or ".join(schema_pb2.FeatureType.Name(type_) for type_ in types)
            raise EventLogError(
                f"{place}: encode={encoding.name} expected type {names}, got {type_name}. Choose "
                "another encoding."
            )
        if needs_size and encoding.size < 2:
            raise EventLogError(
                f"{place}: encode={encoding.name} expected a size of 2 or more, got {encoding.size}. Write "
                f"encode={encoding.name}:<size>."
            )
    interaction = f.parse_interaction(proto.name) if feature.role is f.Role.PRIVILEGED else None
    if interaction:
        _check_interaction(path, place, interaction, feature.type, columns, needs_column)
    elif proto.name in columns:
        _check_type(place, feature, type_name, columns[proto.name])
    elif needs_column:
        raise EventLogError(
            f"{place}: expected a column of this name, got {', '.join(columns)}. Correct the name, or remove "
            "the feature."
        )


def _check_interaction(
    path: Path,
    place: str,
    interaction: f.Interaction,
    feature_type: int,
    columns: Mapping[str, pa.DataType],
    needs_column: bool,
) -> None:
    """Checks what ingestion is to compute, see `components.event_ingest.interactions`."""
    if path.stem != f.ExampleType.IMPRESSION.value:
        raise EventLogError(f"{place}: is computed for impressions alone. Move it to impression.pbtxt.")
    if interaction.name in columns:
        raise EventLogError(
            f"{place}: is computed, but the log has a column of this name. Rename the column, or remove the "
            "feature."
        )
    is_age = interaction.statistic is f.Statistic.CLICK_AGE_SECONDS
    expected = schema_pb2.FLOAT if is_age else schema_pb2.INT
    if feature_type != expected:
        names = [schema_pb2.FeatureType.Name(type_) for type_ in (expected, feature_type)]
        raise EventLogError(f"{place}: expected type {names[0]}, got {names[1]}. Give it that type.")
    if needs_column and interaction.column not in columns:
        raise EventLogError(
            f"{place}: is computed from the column {interaction.column!r}, which is none of "
            f"{', '.join(columns)}. Correct the name, or remove the feature."
        )


def _check_type(place: str, feature: f.Feature, type_name: str, column: pa.DataType) -> None:
    value = column
    is_list = pa.types.is_list(value) or pa.types.is_large_list(value)
    if is_list:
        value = value.value_type
    if pa.types.is_dictionary(value):
        value = value.value_type
    if feature.type not in _types_of(value):
        raise EventLogError(
            f"{place}: type {type_name} does not hold the column, which is {column}. "
            + _remedy(_types_of(value), type_name)
        )
    if is_list and not feature.is_list:
        raise EventLogError(
            f"{place}: expected one value, but the column is {column}. Write "
            "value_count { min: 0 } instead."
        )


def _types_of(value: pa.DataType) -> tuple[int, ...]:
    """The types of a feature that a column's values can become, the best one first; see `encode_examples`."""
    if pa.types.is_null(value):
        return (schema_pb2.BYTES, *_NUMBERS)
    if pa.types.is_integer(value) or pa.types.is_boolean(value):
        return _NUMBERS
    if pa.types.is_timestamp(value):
        return (schema_pb2.INT,)
    if pa.types.is_floating(value) or pa.types.is_decimal(value):
        return (schema_pb2.FLOAT,)
    is_bytes = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return (schema_pb2.BYTES,) if any(is_kind(value) for is_kind in is_bytes) else ()


def _remedy(types: tuple[int, ...], type_name: str) -> str:
    if not types:
        return f"Export the column as one that {type_name} holds, or remove the feature."
    return f"Expected type {schema_pb2.FeatureType.Name(types[0])}; correct it, or the column."

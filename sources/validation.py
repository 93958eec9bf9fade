"""Whether an event log holds to its contract, checked before anything is made of it.

Every file is streamed. Memory holds two batches of rows, 8 bytes for each user and item, and at most 128 MiB
for the search for repeated rows.
"""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sources.event_log import (
    IMPRESSION_COLUMNS,
    ITEM_COLUMNS,
    TIMESTAMP,
    USER_COLUMNS,
    EventLog,
    EventLogError,
    Progress,
)
from sources.keys import KnownIds, refuse_repeated
from sources.parquet_files import BATCH_ROWS, REMEDY, Rows, read_layout, read_rows

_AFTER_SHOWN = ("clicked", "clicked_at", "converted", "converted_at", "dwell_seconds")


def validate_event_log(log: EventLog, progress: Progress | None = None, *, convertible: bool = False) -> None:
    """Checks every row of an event log.

    Args:
      log: the event log.
      progress: told how many files are checked.
      convertible: accept what `import_events` converts: timestamps of another unit or without a time zone,
        wider numbers, and absent columns that may be null.

    Raises:
      EventLogError: at the first thing that does not hold, naming file, row and field, what was expected
        and what to do.
      OSError: if a file may not be read.
    """
    days = log.partitions()
    paths = [path for files in days.values() for path in files]
    _check_catalogue(log.users_path, USER_COLUMNS, convertible)
    _check_catalogue(log.items_path, ITEM_COLUMNS, convertible)
    _check_names(log)
    num_rows = _check_layouts(paths, convertible)
    if not num_rows:
        raise EventLogError(f"{paths[0].parents[1]}: holds no row. Expected impressions; deliver them.")
    users, items = KnownIds(log.users_path, "user_id"), KnownIds(log.items_path, "item_id")
    for parts in _gather(_read_impressions(days, progress)):
        if len(parts) == 1 or not _hold_together(parts, users, items):
            for part in parts:  # one by one, so that an error names the file and the row
                _check_impressions(part[1].conform(IMPRESSION_COLUMNS), _days_of([part]), users, items)
    refuse_repeated(paths, ["request_id", "item_id"])


def _read_impressions(
    days: Mapping[dt.date, Sequence[Path]], progress: Progress | None
) -> Iterator[tuple[dt.date, Rows]]:
    """The rows of all files, with the day each is to be of."""
    done, num_files = 0, sum(map(len, days.values()))
    for day, files in days.items():
        for path in files:
            for rows in read_rows(path):
                yield day, rows
            done += 1
            if progress:
                progress("checking events", done, num_files)


def _gather(parts: Iterator[tuple[dt.date, Rows]]) -> Iterator[list[tuple[dt.date, Rows]]]:
    """Puts small parts together, to less than two batches of rows."""
    gathered: list[tuple[dt.date, Rows]] = []
    num_rows = 0
    try:
        for part in parts:
            gathered.append(part)
            num_rows += part[1].table.num_rows
            if num_rows >= BATCH_ROWS:
                yield gathered
                gathered, num_rows = [], 0
    except Exception:
        if gathered:  # what is wrong before a file that cannot be read is said first
            yield gathered
        raise
    if gathered:
        yield gathered


def _hold_together(parts: list[tuple[dt.date, Rows]], users: KnownIds, items: KnownIds) -> bool:
    """Whether parts of many files hold to the contract, at the cost of one; every check is row by row."""
    try:
        table = pa.concat_tables([rows.table for _, rows in parts], promote=True)
        together = Rows(parts[0][1].path, table, 0).conform(IMPRESSION_COLUMNS)
        _check_impressions(together, _days_of(parts), users, items)
    except (EventLogError, pa.ArrowException):
        return False
    return True


def _days_of(parts: list[tuple[dt.date, Rows]]) -> np.ndarray:
    """The day [N] that each row of some parts is to be of."""
    days = np.array([day for day, _ in parts], "datetime64[D]")
    return np.repeat(days, [rows.table.num_rows for _, rows in parts])


def find_differences(schema: pa.Schema, columns: pa.Schema) -> list[str]:
    """The contract's columns that a file lacks or has in another type."""
    types = dict(zip(schema.names, schema.types, strict=True))
    return [field.name for field in columns if types.get(field.name) != field.type]


def _check_layout(path: Path, columns: pa.Schema, convertible: bool) -> tuple[pa.Schema, int]:
    schema, num_rows = read_layout(path)
    repeated = [name for name in schema.names if schema.names.count(name) > 1]
    if repeated:
        raise EventLogError(f"{path}, {repeated[0]}: expected one column of this name, got two. {REMEDY}")
    for name in find_differences(schema, columns):
        field = columns.field(name)
        if name not in schema.names:
            if not (convertible and field.nullable):
                raise EventLogError(
                    f"{path}, {name}: expected a column of {field.type}, but it is missing. Add it"
                    + (", or let `winnow import events` do so." if field.nullable else " and export again.")
                )
        elif not (convertible and _can_become(schema.field(name).type, field)):
            raise EventLogError(
                f"{path}, {name}: expected a column of {field.type}, got {schema.field(name).type}. "
                + _remedy_for_type(schema.field(name).type, field)
            )
    return schema, num_rows


def _can_become(actual: pa.DataType, field: pa.Field) -> bool:
    kinds = (pa.types.is_timestamp, pa.types.is_integer, pa.types.is_floating)
    if any(kind(actual) and kind(field.type) for kind in kinds):
        return True
    if pa.types.is_dictionary(actual):
        actual = actual.value_type
    is_text = pa.types.is_string(actual) or pa.types.is_large_string(actual)
    return (is_text and pa.types.is_string(field.type)) or (pa.types.is_null(actual) and field.nullable)


def _remedy_for_type(actual: pa.DataType, field: pa.Field) -> str:
    if _can_become(actual, field):
        return "`winnow import events` converts it."
    if pa.types.is_timestamp(field.type):
        return "Export it as a timestamp, so that its unit and zone are known."
    return f"Cast it to {field.type} and export again."


def _check_layouts(paths: list[Path], convertible: bool) -> int:
    """Checks that all files of impressions have the same columns; returns their number of rows."""
    first: dict[str, pa.DataType] = {}
    total = 0
    for path in paths:
        schema, num_rows = _check_layout(path, IMPRESSION_COLUMNS, convertible)
        total += num_rows
        own = {field.name: field.type for field in schema if field.name not in IMPRESSION_COLUMNS.names}
        first = own if path == paths[0] else first
        for name in sorted(own.keys() | first.keys()):
            if own.get(name) != first.get(name):
                raise EventLogError(
                    f"{path}, {name}: expected {first.get(name, 'no such column')} as in {paths[0]}, "
                    f"got {own.get(name, 'no such column')}. Every day needs the same columns. {REMEDY}"
                )
    return total


def _check_catalogue(path: Path, columns: pa.Schema, convertible: bool) -> None:
    """Checks the users' or the items' file, whose key is the contract's first column."""
    key = columns.names[0]
    _, num_rows = _check_layout(path, columns, convertible)
    if not num_rows:
        raise EventLogError(f"{path}: holds no row. Expected one for every {key}; deliver it again.")
    for rows in read_rows(path):
        _check_values(rows.conform(columns), columns)
    refuse_repeated([path], [key])


def _check_names(log: EventLog) -> None:
    """Checks that no column is both of users and of items: an impression has both, under one name."""
    items = read_layout(log.items_path)[0].names
    for name in read_layout(log.users_path)[0].names:
        if name in items:
            raise EventLogError(
                f"{log.users_path}, {name}: expected a name that {log.items_path} does not use, since a row "
                f"of training has the columns of both. Rename it, say to user_{name}, and export again."
            )


def _check_values(rows: Rows, columns: pa.Schema) -> None:
    """What holds for every file: ids are not empty, times not before 1970, numbers finite."""
    for field in columns:
        if field.name.endswith("_id"):
            rows.refuse(pc.equal(rows.column(field.name), ""), field.name, "an id")
        elif field.type == TIMESTAMP:
            is_early = pc.less(rows.column(field.name).cast(pa.int64()), 0)
            rows.refuse(is_early, field.name, "a time from 1970 on")
    for field in rows.table.schema:
        if pa.types.is_floating(field.type):
            is_finite = pc.is_finite(rows.column(field.name))
            rows.refuse(pc.invert(is_finite), field.name, "a finite number or null")


def _check_impressions(rows: Rows, days: np.ndarray, users: KnownIds, items: KnownIds) -> None:
    """Checks rows [N] that are to be of certain days [N]."""
    _check_values(rows, IMPRESSION_COLUMNS)
    milliseconds = rows.column("timestamp").cast(pa.int64()).to_numpy()
    outside = milliseconds.astype("datetime64[ms]").astype("datetime64[D]") != days
    if outside.any():
        expected = f"a time on {days[outside.argmax()]} (UTC), the day of the file's folder"
        rows.refuse(pa.chunked_array([outside]), "timestamp", expected)
    users.refuse_others(rows, "user_id")
    items.refuse_others(rows, "item_id")
    _check_what_followed(rows)


def _check_what_followed(rows: Rows) -> None:
    """Checks that clicks and conversions come after what they need."""
    position, time = rows.column("position"), rows.column("timestamp")
    clicked_at, converted_at = rows.column("clicked_at"), rows.column("converted_at")
    rows.refuse(pc.less(position, 0), "position", "0 or more, or null where the item was not shown")
    unknown = pc.and_(position.is_valid(), rows.column("clicked").is_null())
    rows.refuse(unknown, "clicked", "true or false where position is set (the item was shown)")
    for name in _AFTER_SHOWN:
        follows_nothing = pc.and_(position.is_null(), rows.column(name).is_valid())
        rows.refuse(follows_nothing, name, "null where position is null (the item was not shown)")
    for name in ("clicked", "converted"):
        happened, at = pc.fill_null(rows.column(name), False), rows.column(f"{name}_at")
        rows.refuse(pc.and_(happened, at.is_null()), f"{name}_at", f"a time where {name} is true")
        rows.refuse(
            pc.and_(pc.invert(happened), at.is_valid()), f"{name}_at", f"null where {name} is not true"
        )
    rows.refuse(pc.less(clicked_at, time), "clicked_at", "a time not before timestamp")
    since = pc.coalesce(clicked_at, time)
    rows.refuse(pc.less(converted_at, since), "converted_at", "a time not before clicked_at and timestamp")
    rows.refuse(pc.less(rows.column("dwell_seconds"), 0), "dwell_seconds", "0 or more, or null")

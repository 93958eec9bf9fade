"""The event log: the one input format of the pipeline.

    users.parquet        user_id + profile columns
    items.parquet        item_id, title, category, published_at + the source's own columns
    impressions/date=YYYY-MM-DD/*.parquet
                         one row per (request, candidate); `position` is null for a candidate that was
                         not shown, and `clicked` and what follows it is null there too
    event_log.json       who wrote it, which schema describes its own columns, whether it is synthetic

Timestamps are UTC with millisecond precision. A row belongs to the day of its `timestamp`; what became
known later (`clicked_at`, `converted_at`) stays on the row and is used point in time by the readers.
"""

import dataclasses
import datetime as dt
import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

# What a long operation tells its caller: (what is being done, how much of it, out of how much).
Progress = Callable[[str, int, int], None]

TIMESTAMP = pa.timestamp("ms", tz="UTC")

USER_COLUMNS = pa.schema([pa.field("user_id", pa.string(), nullable=False)])

ITEM_COLUMNS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("category", pa.string(), nullable=False),
        pa.field("published_at", TIMESTAMP),
    ]
)

IMPRESSION_COLUMNS = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("position", pa.int32()),
        pa.field("timestamp", TIMESTAMP, nullable=False),
        pa.field("clicked", pa.bool_()),
        pa.field("clicked_at", TIMESTAMP),
        pa.field("converted", pa.bool_()),
        pa.field("converted_at", TIMESTAMP),
        pa.field("dwell_seconds", pa.float32()),
    ]
)

USERS_FILE = "users.parquet"
ITEMS_FILE = "items.parquet"
IMPRESSIONS_DIR = "impressions"
MANIFEST_FILE = "event_log.json"
ORACLE_DIR = "oracle"  # beside the log, never read by ingestion


class EventLogError(ValueError):
    """An event log, or a file on its way to become one, that cannot be used.

    The message names the file, the row or field where there is one, what was expected and what to do.
    """


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What `event_log.json` says.

    Attributes:
      source: the name of what wrote the log, e.g. "movielens-latest".
      schema: the folder under `schemas/` that describes the source's own columns, e.g. "movielens".
      synthetic: whether the events are simulated; every table of results repeats it.
    """

    source: str
    schema: str
    synthetic: bool = False


class EventLog:
    """Read access to an event log directory. Opens nothing until asked.

    Args:
      path: the directory.
      needs_manifest: false for a directory that is still to be imported.

    Raises:
      EventLogError: if the directory or one of its parts is missing.
    """

    def __init__(self, path: str | Path, needs_manifest: bool = True):
        self.path = Path(path)
        if not self.path.is_dir():
            raise EventLogError(
                f"{self.path}: no such directory. Expected an event log; "
                "make one with `winnow simulate` or `winnow import`."
            )
        names = [USERS_FILE, ITEMS_FILE, IMPRESSIONS_DIR]
        for name in names + [MANIFEST_FILE] * needs_manifest:
            if not (self.path / name).exists():
                raise EventLogError(
                    f"{self.path / name}: missing. An event log holds {USERS_FILE}, {ITEMS_FILE}, "
                    f"{IMPRESSIONS_DIR}/ and {MANIFEST_FILE}; `winnow import events` adds the last."
                )

    @property
    def users_path(self) -> Path:
        """The users table."""
        return self.path / USERS_FILE

    @property
    def items_path(self) -> Path:
        """The item catalogue."""
        return self.path / ITEMS_FILE

    @property
    def has_manifest(self) -> bool:
        """Whether it says anything of itself; only a directory that is still to be imported may not."""
        return (self.path / MANIFEST_FILE).exists()

    @property
    def manifest(self) -> Manifest:
        """What the log says of itself.

        Raises:
          EventLogError: if the file is not the JSON of a manifest.
        """
        path = self.path / MANIFEST_FILE
        try:
            return Manifest(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise EventLogError(
                f"{path}: {error}. Expected a JSON object with source, schema and synthetic; "
                "write it again with `winnow import events`."
            ) from error

    def partitions(self) -> dict[dt.date, list[Path]]:
        """The Parquet files of each day, days ascending.

        Raises:
          EventLogError: if there is no day, a day's name is no date, or a day has no file.
        """
        days: dict[dt.date, list[Path]] = {}
        for folder in sorted((self.path / IMPRESSIONS_DIR).iterdir()):
            if folder.name.startswith((".", "_")):
                continue  # not data to any Parquet reader: Spark leaves _SUCCESS there
            try:
                key, _, value = folder.name.partition("=")
                if key != "date":
                    raise ValueError(folder.name)
                day = dt.date.fromisoformat(value)
            except ValueError as error:
                raise EventLogError(
                    f"{folder}: expected a folder named date=YYYY-MM-DD. Rename or remove it."
                ) from error
            days[day] = sorted(folder.glob("*.parquet"))
            if not days[day]:
                raise EventLogError(
                    f"{folder}: holds no .parquet file. Deliver the day's file or remove the folder."
                )
        if not days:
            raise EventLogError(
                f"{self.path / IMPRESSIONS_DIR}: holds no day. Expected date=YYYY-MM-DD folders."
            )
        return days

    def fingerprint(self) -> str:
        """A hash of every file's name and content; equal logs have equal fingerprints."""
        files = [self.path / MANIFEST_FILE, self.users_path, self.items_path]
        files += [file for day in self.partitions().values() for file in day]
        digest = hashlib.sha256()
        for file in files:
            digest.update(file.relative_to(self.path).as_posix().encode())
            with file.open("rb") as stream:
                while chunk := stream.read(1 << 20):
                    digest.update(chunk)
        return digest.hexdigest()[:16]


class EventLogWriter:
    """Writes the parts of an event log; made by `create_event_log`."""

    def __init__(self, path: Path):
        self.path = path
        self._parts: dict[dt.date, int] = {}

    def write_users(self, table: pa.Table) -> None:
        """Writes the users; columns of `USER_COLUMNS` first, the source's own after them."""
        pq.write_table(conform(table, USER_COLUMNS), self.path / USERS_FILE)

    def write_items(self, table: pa.Table) -> None:
        """Writes the catalogue; columns of `ITEM_COLUMNS` first, the source's own after them."""
        pq.write_table(conform(table, ITEM_COLUMNS), self.path / ITEMS_FILE)

    def write_impressions(self, day: dt.date, table: pa.Table) -> None:
        """Adds one file to a day.

        Raises:
          EventLogError: if a row's `timestamp` is not on that day (UTC).
        """
        table = conform(table, IMPRESSION_COLUMNS)
        first, last = pc.min_max(table.column("timestamp")).values()
        if table.num_rows and not day == first.as_py().date() == last.as_py().date():
            raise EventLogError(
                f"column timestamp: expected {day} (UTC), got {first.as_py()} to {last.as_py()}; "
                "write each day's rows to their own day"
            )
        folder = self.path / IMPRESSIONS_DIR / f"date={day.isoformat()}"
        folder.mkdir(parents=True, exist_ok=True)
        part = self._parts.get(day, 0)
        self._parts[day] = part + 1
        pq.write_table(table, folder / f"part-{part:05d}.parquet", compression="zstd")


def conform(table: pa.Table, columns: pa.Schema) -> pa.Table:
    """Orders a table's columns and gives the contract's ones their types; absent nullable ones are null.

    Timestamps of another unit or without a time zone become UTC milliseconds; what is finer is cut off.

    Args:
      table: the rows; columns beyond the contract keep their type and follow it.
      columns: the contract.

    Raises:
      EventLogError: if a required column is absent or null, or a column cannot take its type.
    """
    arrays, fields = [], []
    for field in columns:
        if field.name in table.column_names:
            arrays.append(_cast(table.column(field.name), field))
        elif field.nullable:
            arrays.append(pa.chunked_array([pa.nulls(table.num_rows, field.type)]))
        else:
            raise EventLogError(f"column {field.name}: missing, expected {field.type}")
        fields.append(field)
    for name in table.column_names:
        if name not in columns.names:
            arrays.append(table.column(name))
            fields.append(table.schema.field(name))
    return pa.table(arrays, schema=pa.schema(fields))


def _cast(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    if column.null_count and not field.nullable:
        row = pc.index(column.is_null(), True).as_py()
        raise EventLogError(f"column {field.name}, row {row}: null, expected {field.type}")
    if column.type == field.type:
        return column
    try:
        return column.cast(options=pc.CastOptions(field.type, allow_time_truncate=True))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise EventLogError(
            f"column {field.name}: expected {field.type}, got {column.type} ({error})"
        ) from error


def _make_staging(out: Path, staging: Path) -> None:
    """Makes the directory; what is wrong is said of `out`, the name that the user knows."""
    try:
        staging.mkdir(parents=True)
    except OSError as error:
        raise EventLogError(
            f"{out}: cannot be written ({error.strerror}). Expected a place where a directory can be made; "
            "choose another --out, or change the permissions."
        ) from error


@contextmanager
def create_event_log(out: str | Path, manifest: Manifest) -> Iterator[EventLogWriter]:
    """Creates an event log at `out`, all or nothing: written beside it and renamed at the end.

    Args:
      out: a directory that does not exist yet, or is empty.
      manifest: what the log says of itself.

    Yields:
      the writer; an exception inside the block leaves nothing behind.

    Raises:
      EventLogError: if `out` holds something already, or no directory can be made there.
      OSError: if it cannot be written.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise EventLogError(
            f"{out}: exists already. Choose another --out, or remove it first; nothing was written."
        )
    target = out.resolve()  # "." has no name of its own to put a staging directory beside
    new_parents = [parent for parent in target.parents if not parent.exists()]
    staging = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        _make_staging(out, staging)
        yield EventLogWriter(staging)
        (staging / IMPRESSIONS_DIR).mkdir(exist_ok=True)
        text = json.dumps(dataclasses.asdict(manifest), indent=2)
        (staging / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")
        staging.rename(target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        for parent in new_parents:
            with suppress(OSError):  # somebody else's files may have arrived there meanwhile
                parent.rmdir()
        raise

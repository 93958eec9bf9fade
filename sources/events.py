"""One's own events: a directory laid out as an event log, checked and brought into the exact contract."""

import dataclasses
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sources.event_log import (
    IMPRESSION_COLUMNS,
    ITEM_COLUMNS,
    USER_COLUMNS,
    EventLog,
    Manifest,
    Progress,
    create_event_log,
)
from sources.parquet_files import read_layout, read_rows
from sources.validation import find_differences, validate_event_log

DEFAULT_MANIFEST = Manifest(source="events", schema="core")


def import_events(
    src: str | Path, out: str | Path, schema: str | None = None, progress: Progress | None = None
) -> Manifest:
    """Copies an event log that holds to the contract; the oracle of a simulated one stays behind.

    A file whose columns have the contract's types is copied byte by byte; another one is converted:
    timestamps of other units or without a time zone (taken as UTC) to UTC milliseconds, wider numbers and
    other strings to the contract's, absent columns that may be null added.

    Args:
      src: users.parquet, items.parquet and impressions/, with or without event_log.json.
      out: where the event log goes.
      schema: the folder under `schemas/` for the columns beyond the contract; by default the one that
        event_log.json names, or "core".
      progress: told how many files are done.

    Returns:
      what the log says of itself.

    Raises:
      EventLogError: if anything does not hold to the contract; nothing is left at `out`.
      OSError: if something cannot be read or written.
    """
    log = EventLog(src, needs_manifest=False)
    manifest = log.manifest if log.has_manifest else DEFAULT_MANIFEST
    if schema:
        manifest = dataclasses.replace(manifest, schema=schema)
    contracts = {log.users_path: USER_COLUMNS, log.items_path: ITEM_COLUMNS}
    for files in log.partitions().values():
        contracts |= dict.fromkeys(files, IMPRESSION_COLUMNS)
    with create_event_log(out, manifest) as writer:
        validate_event_log(log, progress, convertible=True)
        for done, (path, columns) in enumerate(contracts.items(), start=1):
            _copy(path, writer.path / path.relative_to(log.path), columns)
            if progress:
                progress("writing files", done, len(contracts))
    return manifest


def _copy(source: Path, target: Path, columns: pa.Schema) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    schema, _ = read_layout(source)
    if not find_differences(schema, columns):
        shutil.copyfile(source, target)
        return
    own = [field for field in schema if field.name not in columns.names]
    with pq.ParquetWriter(target, pa.schema([*columns, *own]), compression="zstd") as writer:
        for rows in read_rows(source):
            writer.write_table(rows.conform(columns).table)

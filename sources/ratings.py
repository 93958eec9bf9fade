"""Ratings as events: what MovieLens and the Amazon reviews have in common.

A rating says that somebody had the item before them and took it. It becomes one request with one shown,
clicked candidate at the time of the rating; four stars or more make it a conversion.
"""

import datetime as dt
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sources.event_log import TIMESTAMP, EventLogWriter, Progress

RATING_COLUMNS = pa.schema(
    [
        pa.field("line", pa.int64()),
        pa.field("user_id", pa.string()),
        pa.field("item_id", pa.string()),
        pa.field("timestamp", TIMESTAMP),
        pa.field("rating", pa.float32()),
    ]
)

CONVERSION_RATING = 4.0

# Seconds. Outside of them a time is in another unit, or damaged: nothing was rated on the web before 1995.
FIRST_SECOND = 788_918_400  # 1995-01-01
LAST_SECOND = 4_102_444_799  # the last of 2099
TIMES = "since 1970-01-01, of the years 1995 to 2099"

_NUM_BUCKETS = 64
_DAY_MILLISECONDS = 86_400_000
_SPILL_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


def write_ratings(
    writer: EventLogWriter, tables: Iterable[pa.Table], progress: Progress | None = None
) -> tuple[pa.Array, pa.Array]:
    """Writes ratings in any order as impressions by day.

    The rows are spilled to disk into 64 buckets by day, then each bucket is sorted and written, so memory
    holds one of the given tables and one bucket (a 64th of the rating data when it spreads over many days,
    at worst its largest day), besides the distinct ids. A user's second rating of the same item at the same
    time replaces the first.

    Args:
      writer: where the days go.
      tables: the ratings, `RATING_COLUMNS`.
      progress: told how many buckets are written.

    Returns:
      the distinct user ids and item ids, in order of first appearance.
    """
    spill = writer.path / ".spill"
    spill.mkdir()
    users = items = pa.array([], pa.string())
    with ExitStack() as stack:
        paths = [spill / f"{bucket}.arrow" for bucket in range(_NUM_BUCKETS)]
        files = [
            stack.enter_context(pa.ipc.new_file(str(path), RATING_COLUMNS, options=_SPILL_OPTIONS))
            for path in paths
        ]
        for table in tables:
            users = _add_distinct(users, table.column("user_id"))
            items = _add_distinct(items, table.column("item_id"))
            for bucket, rows in _split(table, _days(table) % _NUM_BUCKETS):
                files[bucket].write_table(rows)
    for done, path in enumerate(paths, start=1):
        _write_days(writer, path)
        path.unlink()
        if progress:
            progress("writing days", done, _NUM_BUCKETS)
    spill.rmdir()
    return users, items


def _add_distinct(known: pa.Array, ids: pa.ChunkedArray) -> pa.Array:
    return pc.unique(pa.chunked_array([known, pc.unique(ids)]))


def _days(table: pa.Table) -> np.ndarray:
    return table.column("timestamp").cast(pa.int64()).to_numpy() // _DAY_MILLISECONDS


def _split(table: pa.Table, keys: np.ndarray) -> Iterator[tuple[int, pa.Table]]:
    """Groups rows by key; within a group they keep their order."""
    order = np.argsort(keys, kind="stable")
    table, keys = table.take(pa.array(order)), keys[order]
    starts = np.flatnonzero(np.diff(keys, prepend=keys[:1] - 1))
    for start, end in zip(starts, np.append(starts, len(keys))[1:], strict=True):
        yield int(keys[start]), table.slice(start, end - start)


def _write_days(writer: EventLogWriter, path: Path) -> None:
    with pa.OSFile(str(path)) as stream:
        table = pa.ipc.open_file(stream).read_all()
    keys = table.select(["timestamp", "user_id", "item_id"]).to_pandas()
    table = table.filter(pa.array(~keys.duplicated(keep="last")))
    table = table.sort_by([("timestamp", "ascending"), ("line", "ascending")])
    for day, rows in _split(table, _days(table)):
        writer.write_impressions(dt.date(1970, 1, 1) + dt.timedelta(days=day), _as_impressions(rows))


def _as_impressions(ratings: pa.Table) -> pa.Table:
    time = ratings.column("timestamp")
    converted = pc.greater_equal(ratings.column("rating"), CONVERSION_RATING)
    return pa.table(
        {
            # The line in the source's file: unique, and the way back to it.
            "request_id": ratings.column("line").cast(pa.string()),
            "user_id": ratings.column("user_id"),
            "item_id": ratings.column("item_id"),
            "position": pa.array(np.zeros(len(ratings), np.int32)),
            "timestamp": time,
            "clicked": pa.array(np.ones(len(ratings), np.bool_)),
            "clicked_at": time,
            "converted": converted,
            "converted_at": pc.if_else(converted, time, None),
            "rating": ratings.column("rating"),
        }
    )

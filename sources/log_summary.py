"""What an event log holds, in a few numbers."""

import dataclasses
import datetime as dt

import pyarrow as pa
import pyarrow.compute as pc

from sources.event_log import EventLog, EventLogError
from sources.parquet_files import read_layout, read_rows


@dataclasses.dataclass(frozen=True)
class LogSummary:
    """Counts of an event log; an impression is a shown row.

    Attributes:
      num_users: users.
      num_items: items.
      num_impressions: shown rows.
      num_clicks: clicked rows.
      num_days: days that have a folder.
      first_timestamp: the first row's time (UTC).
      last_timestamp: the last row's time (UTC).
    """

    num_users: int
    num_items: int
    num_impressions: int
    num_clicks: int
    num_days: int
    first_timestamp: dt.datetime
    last_timestamp: dt.datetime


def summarize(log: EventLog) -> LogSummary:
    """Counts a valid event log, one batch of rows in memory at a time.

    Raises:
      EventLogError: if a file cannot be read, or there is no row.
    """
    days = log.partitions()
    num_impressions = num_clicks = 0
    bounds: list[pa.Scalar] = []
    for path in (path for files in days.values() for path in files):
        for rows in read_rows(path, ["position", "clicked", "timestamp"]):
            num_impressions += rows.table.num_rows - rows.column("position").null_count
            num_clicks += pc.sum(rows.column("clicked")).as_py() or 0
            bounds.extend(pc.min_max(rows.column("timestamp")).values())
    times = [bound.as_py() for bound in bounds if bound.is_valid]
    if not times:
        raise EventLogError(f"{log.path}: holds no row. Expected impressions; deliver them.")
    return LogSummary(
        num_users=read_layout(log.users_path)[1],
        num_items=read_layout(log.items_path)[1],
        num_impressions=num_impressions,
        num_clicks=num_clicks,
        num_days=len(days),
        first_timestamp=min(times),
        last_timestamp=max(times),
    )

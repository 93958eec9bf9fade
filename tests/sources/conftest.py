import datetime as dt

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

UTC_MS = pa.timestamp("ms", tz="UTC")


def _time(hour, minute=0):
    return dt.datetime(2024, 1, 2, hour, minute, tzinfo=dt.timezone.utc)


def _impressions():
    """Rows 0 and 1 were shown, row 0 was clicked and converted; row 2 was a candidate."""
    return {
        "request_id": pa.array(["r1", "r1", "r1"]),
        "user_id": pa.array(["u1", "u1", "u1"]),
        "item_id": pa.array(["i1", "i2", "i3"]),
        "position": pa.array([0, 1, None], pa.int32()),
        "timestamp": pa.array([_time(9)] * 3, UTC_MS),
        "clicked": pa.array([True, False, None]),
        "clicked_at": pa.array([_time(9, 1), None, None], UTC_MS),
        "converted": pa.array([True, False, None]),
        "converted_at": pa.array([_time(9, 30), None, None], UTC_MS),
        "dwell_seconds": pa.array([12.5, None, None], pa.float32()),
        "device": pa.array(["phone", "phone", "phone"]),
    }


class LogBuilder:
    """A small event log, valid as it stands; tests change its columns before it is written."""

    def __init__(self, path):
        self.path = path
        self.users = {"user_id": pa.array(["u1", "u2"])}
        self.items = {
            "item_id": pa.array(["i1", "i2", "i3"]),
            "title": pa.array(["one", "two", "three"]),
            "category": pa.array(["a", "a", "b"]),
            "published_at": pa.array([_time(0), None, None], UTC_MS),
            "price": pa.array([1.0, None, 3.0], pa.float32()),
        }
        self.impressions = _impressions()
        self.has_manifest = True

    @property
    def file(self):
        return self.path / "impressions" / "date=2024-01-02" / "part-00000.parquet"

    def write(self):
        self.file.parent.mkdir(parents=True)
        pq.write_table(pa.table(self.users), self.path / "users.parquet")
        pq.write_table(pa.table(self.items), self.path / "items.parquet")
        pq.write_table(pa.table(self.impressions), self.file)
        if self.has_manifest:
            (self.path / "event_log.json").write_text(
                '{"source": "test", "schema": "core", "synthetic": false}'
            )
        return self.path

    def add_day(self, day, **changes):
        """Writes a further day with other requests; to be called after `write`."""
        shift = dt.date.fromisoformat(day) - dt.date(2024, 1, 2)
        columns = _impressions()
        for name in ("timestamp", "clicked_at", "converted_at"):
            times = [time and time + shift for time in columns[name].to_pylist()]
            columns[name] = pa.array(times, UTC_MS)
        columns["request_id"] = pa.array(["r2"] * 3)
        folder = self.path / "impressions" / f"date={day}"
        folder.mkdir()
        table = pa.table({**columns, **changes})
        pq.write_table(table, folder / "part-00000.parquet")
        return folder / "part-00000.parquet"


@pytest.fixture
def log_builder(tmp_path):
    return LogBuilder(tmp_path / "src")

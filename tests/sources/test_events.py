import datetime as dt

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sources.event_log import IMPRESSION_COLUMNS, EventLog, EventLogError, Manifest
from sources.events import import_events
from sources.validation import validate_event_log


def files_of(path):
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*.parquet")}


def test_conforming_log_is_copied_byte_by_byte(log_builder, tmp_path):
    src = log_builder.write()
    log_builder.add_day("2024-01-03")
    manifest = import_events(src, tmp_path / "out")

    assert manifest == Manifest("test", "core")
    assert files_of(tmp_path / "out") == files_of(src)
    assert len(files_of(src)) == 4


def test_copy_of_a_written_log_has_its_fingerprint(log_builder, tmp_path):
    import_events(log_builder.write(), tmp_path / "one")
    import_events(tmp_path / "one", tmp_path / "two")

    assert EventLog(tmp_path / "one").fingerprint() == EventLog(tmp_path / "two").fingerprint()


@pytest.mark.parametrize(("schema", "expected"), [(None, "core"), ("movielens", "movielens")])
def test_log_without_manifest_gets_one(log_builder, tmp_path, schema, expected):
    log_builder.has_manifest = False
    import_events(log_builder.write(), tmp_path / "out", schema)

    assert EventLog(tmp_path / "out").manifest == Manifest("events", expected)


def test_schema_replaces_the_manifests(log_builder, tmp_path):
    import_events(log_builder.write(), tmp_path / "out", "amazon")
    assert EventLog(tmp_path / "out").manifest == Manifest("test", "amazon")


def test_other_types_are_converted(log_builder, tmp_path):
    local = dt.datetime(2024, 1, 2, 9, 0, 0, 123_456)
    log_builder.impressions |= {
        "timestamp": pa.array([local] * 3, pa.timestamp("us")),
        "clicked_at": pa.array([local, None, None], pa.timestamp("ns", "Asia/Tokyo")),
        "position": pa.array([0, 1, None], pa.int64()),
    }
    del log_builder.impressions["dwell_seconds"]
    users = (log_builder.write() / "users.parquet").read_bytes()
    import_events(log_builder.path, tmp_path / "out")

    log = EventLog(tmp_path / "out")
    validate_event_log(log)
    (file,) = log.partitions()[dt.date(2024, 1, 2)]
    table = pq.ParquetFile(file).read()
    assert table.column_names == [*IMPRESSION_COLUMNS.names, "device"]
    expected = local.replace(microsecond=123_000, tzinfo=dt.timezone.utc)
    assert table.column("timestamp").to_pylist() == [expected] * 3
    assert table.column("clicked_at").to_pylist() == [expected, None, None]
    assert table.column("position").to_pylist() == [0, 1, None]
    assert table.column("dwell_seconds").null_count == 3
    assert table.column("device").to_pylist() == ["phone"] * 3
    assert log.users_path.read_bytes() == users


def test_bad_log_leaves_nothing_behind(log_builder, tmp_path):
    log_builder.impressions["item_id"] = pa.array(["i1", "i2", "i9"])
    src = log_builder.write()
    with pytest.raises(EventLogError, match=r"part-00000.parquet, row 2, item_id: .*got 'i9'"):
        import_events(src, tmp_path / "new" / "out")

    assert list(tmp_path.iterdir()) == [src]


def test_timestamps_as_numbers_are_refused(log_builder, tmp_path):
    log_builder.impressions["clicked_at"] = pa.array([1, None, None])
    src = log_builder.write()
    with pytest.raises(
        EventLogError, match=r"clicked_at: expected a column of timestamp\[ms, tz=UTC\], got int64"
    ):
        import_events(src, tmp_path / "out")

    assert list(tmp_path.iterdir()) == [src]


def test_missing_part_is_named(log_builder, tmp_path):
    src = log_builder.write()
    (src / "items.parquet").unlink()
    with pytest.raises(EventLogError, match=r"items.parquet: missing"):
        import_events(src, tmp_path / "out")

    assert list(tmp_path.iterdir()) == [src]

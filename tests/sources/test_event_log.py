import dataclasses
import datetime as dt

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sources.event_log import (
    IMPRESSION_COLUMNS,
    TIMESTAMP,
    USER_COLUMNS,
    EventLog,
    EventLogError,
    Manifest,
    conform,
    create_event_log,
)

DAY = dt.date(2024, 1, 2)
NOON = dt.datetime(2024, 1, 2, 12, tzinfo=dt.timezone.utc)


def make_impressions(time=NOON):
    return pa.table(
        {"request_id": ["r1"], "user_id": ["u1"], "item_id": ["i1"], "timestamp": pa.array([time], TIMESTAMP)}
    )


def write_log(out, manifest=None):
    with create_event_log(out, manifest or Manifest("test", "core")) as writer:
        writer.write_users(pa.table({"user_id": ["u1"]}))
        writer.write_items(pa.table({"item_id": ["i1"], "title": ["t"], "category": ["c"]}))
        writer.write_impressions(DAY, make_impressions())
        writer.write_impressions(DAY, make_impressions())
    return EventLog(out)


def test_written_log_reads_back(tmp_path):
    log = write_log(tmp_path / "log", Manifest("test", "movielens", synthetic=True))

    assert log.manifest == Manifest("test", "movielens", synthetic=True)
    assert [file.name for file in log.partitions()[DAY]] == ["part-00000.parquet", "part-00001.parquet"]
    schema = pq.ParquetFile(log.partitions()[DAY][0]).schema_arrow
    assert schema.names == IMPRESSION_COLUMNS.names
    assert schema.types == IMPRESSION_COLUMNS.types


def test_equal_logs_have_equal_fingerprints(tmp_path):
    one, two = write_log(tmp_path / "one"), write_log(tmp_path / "two")
    other = write_log(tmp_path / "other", Manifest("test", "core", synthetic=True))

    assert one.fingerprint() == two.fingerprint()
    assert one.fingerprint() != other.fingerprint()


def test_failing_writer_leaves_nothing_behind(tmp_path):
    with (
        pytest.raises(KeyboardInterrupt),
        create_event_log(tmp_path / "a" / "b" / "log", Manifest("t", "core")),
    ):
        raise KeyboardInterrupt

    assert list(tmp_path.iterdir()) == []


def test_failing_writer_keeps_directories_that_were_there(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(RuntimeError), create_event_log(tmp_path / "a" / "log", Manifest("t", "core")):
        raise RuntimeError

    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert list((tmp_path / "a").iterdir()) == []


def test_existing_out_is_refused_and_kept(tmp_path):
    out = tmp_path / "log"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with (
        pytest.raises(EventLogError, match=r"log: exists already"),
        create_event_log(out, Manifest("t", "core")),
    ):
        pass

    assert (out / "mine.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_current_directory_can_be_the_log(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with create_event_log(".", Manifest("test", "core")) as writer:
        writer.write_users(pa.table({"user_id": ["u1"]}))
        writer.write_items(pa.table({"item_id": ["i1"], "title": ["t"], "category": ["c"]}))

    assert EventLog(tmp_path / "here").manifest.source == "test"


def test_row_of_another_day_is_refused(tmp_path):
    late = NOON + dt.timedelta(days=1)
    message = r"timestamp: expected 2024-01-02 \(UTC\), got 2024-01-03"
    with (
        pytest.raises(EventLogError, match=message),
        create_event_log(tmp_path / "log", Manifest("t", "core")) as writer,
    ):
        writer.write_impressions(DAY, make_impressions(late))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["users.parquet", "items.parquet", "event_log.json"])
def test_missing_part_is_named(tmp_path, name):
    write_log(tmp_path / "log")
    (tmp_path / "log" / name).unlink()

    with pytest.raises(EventLogError, match=rf"{name}: missing"):
        EventLog(tmp_path / "log")


def test_manifest_is_not_needed_by_an_import(tmp_path):
    write_log(tmp_path / "log")
    (tmp_path / "log" / "event_log.json").unlink()

    assert DAY in EventLog(tmp_path / "log", needs_manifest=False).partitions()


@pytest.mark.parametrize("text", ["{", "[]", '{"source": "x"}', '{"source": "x", "schema": "y", "more": 1}'])
def test_broken_manifest_is_named(tmp_path, text):
    write_log(tmp_path / "log")
    (tmp_path / "log" / "event_log.json").write_text(text)

    with pytest.raises(EventLogError, match=r"event_log.json: .*Expected a JSON object with source"):
        _ = EventLog(tmp_path / "log").manifest


@pytest.mark.parametrize("name", ["2024-01-02", "date=2024-13-01", "day=2024-01-02", "date="])
def test_folder_that_is_no_day_is_named(tmp_path, name):
    log = write_log(tmp_path / "log")
    (log.path / "impressions" / name).mkdir()

    with pytest.raises(EventLogError, match=rf"{name}: expected a folder named date=YYYY-MM-DD"):
        log.partitions()


def test_markers_of_other_tools_are_no_days(tmp_path):
    log = write_log(tmp_path / "log")
    (log.path / "impressions" / "_SUCCESS").touch()

    assert list(log.partitions()) == [DAY]


def test_day_without_file_is_named(tmp_path):
    log = write_log(tmp_path / "log")
    (log.path / "impressions" / "date=2024-01-03").mkdir()

    with pytest.raises(EventLogError, match=r"date=2024-01-03: holds no .parquet file"):
        log.partitions()


def test_conform_orders_fills_and_keeps():
    table = pa.table({"age": [3], "user_id": ["u1"]})
    assert conform(table, USER_COLUMNS).column_names == ["user_id", "age"]
    assert conform(make_impressions(), IMPRESSION_COLUMNS).column("clicked").null_count == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"age": [1]}, "column user_id: missing, expected string"),
        ({"user_id": ["a", None]}, "column user_id, row 1: null, expected string"),
        ({"user_id": [[1]]}, "column user_id: expected string, got list"),
    ],
)
def test_conform_refuses(values, message):
    with pytest.raises(EventLogError, match=message):
        conform(pa.table(values), USER_COLUMNS)


@given(
    st.datetimes(dt.datetime(1970, 1, 1), dt.datetime(2200, 1, 1)),
    st.sampled_from(["ms", "us", "ns"]),
    st.sampled_from([None, "UTC", "Asia/Tokyo"]),
)
def test_conform_brings_any_timestamp_to_utc_milliseconds(time, unit, zone):
    whole = time.replace(microsecond=time.microsecond // 1000 * 1000)
    column = pa.array([whole if unit == "ms" else time], pa.timestamp(unit, zone))
    table = make_impressions().set_column(3, "timestamp", column)

    actual = conform(table, IMPRESSION_COLUMNS).column("timestamp")
    assert actual.type == TIMESTAMP
    assert actual[0].as_py() == whole.replace(tzinfo=dt.timezone.utc)


def test_manifest_is_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Manifest("a", "b").source = "c"  # type: ignore[misc]

import datetime as dt
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sources import keys, validation
from sources.event_log import EventLog, EventLogError
from sources.validation import validate_event_log

UTC_MS = pa.timestamp("ms", tz="UTC")
IMPRESSIONS = "impressions/date=2024-01-02/part-00000.parquet"
NOT_UTF8 = pa.array([b"u1", b"\xff", b"u1"]).cast(pa.string(), safe=False)


def times(*values):
    return pa.array([value and dt.datetime.fromisoformat(value + "+00:00") for value in values], UTC_MS)


def check(builder, **options):
    validate_event_log(EventLog(builder.path), **options)


def refusal(builder, **options):
    with pytest.raises(EventLogError) as caught:
        check(builder, **options)
    return str(caught.value)


def test_valid_log_passes_and_reports_its_files(log_builder):
    log_builder.write()
    log_builder.add_day("2024-01-03")
    calls = []
    check(log_builder, progress=lambda *call: calls.append(call))

    assert calls == [("checking events", 1, 2), ("checking events", 2, 2)]


BAD_IMPRESSIONS = [
    # column, its values, row and column the message names, what was expected
    ("request_id", pa.array(["r1", "", "r1"]), "row 1, request_id", "an id"),
    ("user_id", pa.array(["u1", "u1", "u9"]), "row 2, user_id", "an id that users.parquet lists, got 'u9'"),
    ("item_id", pa.array(["i1", "i9", "i3"]), "row 1, item_id", "an id that items.parquet lists, got 'i9'"),
    ("user_id", pa.array(["u1", None, "u1"]), "row 1, user_id", "string, got None"),
    ("user_id", NOT_UTF8, "row 1, user_id", "UTF-8"),
    ("device", NOT_UTF8, "row 1, device", "UTF-8"),
    ("position", pa.array([0, -1, None], pa.int32()), "row 1, position", "0 or more"),
    ("timestamp", times(*["2024-01-02"] * 2, "2024-01-03"), "row 2, timestamp", "a time on 2024-01-02 (UTC)"),
    ("timestamp", times("2024-01-01T23:59:59.999", *["2024-01-02"] * 2), "row 0, timestamp", "a time on"),
    ("timestamp", times("1969-12-31", *["2024-01-02"] * 2), "row 0, timestamp", "a time from 1970 on"),
    ("clicked", pa.array([True, None, None]), "row 1, clicked", "true or false where position is set"),
    ("clicked", pa.array([True, False, False]), "row 2, clicked", "null where position is null"),
    ("converted", pa.array([True, False, False]), "row 2, converted", "null where position is null"),
    (
        "dwell_seconds",
        pa.array([1, 1, 1], pa.float32()),
        "row 2, dwell_seconds",
        "null where position is null",
    ),
    ("dwell_seconds", pa.array([-1, None, None], pa.float32()), "row 0, dwell_seconds", "0 or more"),
    (
        "dwell_seconds",
        pa.array([np.nan, None, None], pa.float32()),
        "row 0, dwell_seconds",
        "a finite number",
    ),
    ("clicked_at", times("2024-01-02T08:59", None, None), "row 0, clicked_at", "a time not before timestamp"),
    ("clicked_at", times(None, None, None), "row 0, clicked_at", "a time where clicked is true"),
    (
        "clicked_at",
        times("2024-01-02T10:00", "2024-01-02T10:00", None),
        "row 1, clicked_at",
        "null where clicked",
    ),
    (
        "converted_at",
        times("2024-01-02T09:00:30", None, None),
        "row 0, converted_at",
        "not before clicked_at",
    ),
    ("converted_at", times(None, None, None), "row 0, converted_at", "a time where converted is true"),
    ("bid", pa.array([1.0, None, np.inf]), "row 2, bid", "a finite number or null, got inf"),
]


@pytest.mark.parametrize(("column", "values", "place", "expected"), BAD_IMPRESSIONS)
def test_bad_value_is_named(log_builder, column, values, place, expected):
    log_builder.impressions[column] = values
    log_builder.write()
    message = refusal(log_builder)

    assert f"{IMPRESSIONS}, {place}: expected " in message
    assert expected in message
    assert "export it again" in message


@pytest.mark.parametrize(("column", "values", "place", "expected"), BAD_IMPRESSIONS)
def test_bad_value_is_named_among_many_small_files(log_builder, column, values, place, expected):
    """Small files are checked together; the message is the one that the file alone would get."""
    log_builder.impressions[column] = values
    log_builder.write()
    alone = refusal(log_builder)
    others = {"bid": pa.array([1.0] * 3)} if column == "bid" else {}
    for day in ("2024-01-01", "2024-01-03"):
        log_builder.add_day(day, **others)

    assert refusal(log_builder) == alone


def test_the_first_of_several_wrong_files_is_named(log_builder):
    log_builder.write()
    wrong = log_builder.add_day("2024-01-03", dwell_seconds=pa.array([-1, None, None], pa.float32()))
    log_builder.add_day("2024-01-04", request_id=pa.array(["r3", "", "r3"]))  # looked at first in a file
    damaged = log_builder.add_day("2024-01-05")
    content = bytearray(damaged.read_bytes())
    content[4:200] = b"\xff" * 196
    damaged.write_bytes(content)

    assert f"{wrong}, row 0, dwell_seconds" in refusal(log_builder)
    wrong.unlink()
    wrong.parent.rmdir()
    assert "date=2024-01-04/part-00000.parquet, row 1, request_id" in refusal(log_builder)


def test_small_files_are_checked_together(log_builder, monkeypatch):
    sizes, check_impressions = [], validation._check_impressions

    def record(rows, *arguments):
        sizes.append(rows.table.num_rows)
        check_impressions(rows, *arguments)

    monkeypatch.setattr(validation, "_check_impressions", record)
    log_builder.write()
    log_builder.add_day("2024-01-03")
    log_builder.add_day("2024-01-04", request_id=pa.array(["r3"] * 3))
    check(log_builder)
    assert sizes == [9]

    monkeypatch.setattr(validation, "BATCH_ROWS", 4)
    check(log_builder)
    assert sizes == [9, 6, 3]


def test_files_of_different_types_are_checked_too(log_builder):
    time = dt.datetime(2024, 1, 2, 9)
    log_builder.impressions["timestamp"] = pa.array([time] * 3, pa.timestamp("us"))
    log_builder.write()
    later = log_builder.add_day("2024-01-03", position=pa.array([0, 1, None], pa.int64()))
    check(log_builder, convertible=True)
    pa.parquet.write_table(pa.parquet.read_table(later).drop(["dwell_seconds"]), later)
    check(log_builder, convertible=True)
    later.unlink()
    later.parent.rmdir()
    wrong = log_builder.add_day("2024-01-03", timestamp=pa.array([time] * 3, pa.timestamp("us")))
    expected = f"{wrong}, row 0, timestamp: expected a time on 2024-01-03 (UTC)"
    assert expected in refusal(log_builder, convertible=True)


BAD_COLUMNS = [
    (
        "timestamp",
        pa.array([1, 2, 3]),
        "a column of timestamp[ms, tz=UTC], got int64. Export it as a timestamp",
    ),
    ("timestamp", pa.array(["2024-01-02"] * 3), "a column of timestamp[ms, tz=UTC], got string"),
    ("user_id", pa.array([1, 2, 3]), "a column of string, got int64. Cast it to string"),
    ("clicked", pa.array([1, 0, None], pa.int8()), "a column of bool, got int8"),
    ("position", pa.array(["0", "1", None]), "a column of int32, got string"),
    ("request_id", None, "a column of string, but it is missing"),
]


@pytest.mark.parametrize("convertible", [False, True])
@pytest.mark.parametrize(("column", "values", "expected"), BAD_COLUMNS)
def test_wrong_column_is_named(log_builder, column, values, expected, convertible):
    del log_builder.impressions[column]
    if values is not None:
        log_builder.impressions[column] = values
    log_builder.write()

    assert f"{IMPRESSIONS}, {column}: expected {expected}" in refusal(log_builder, convertible=convertible)


CONVERTIBLE = [
    ("timestamp", pa.array([dt.datetime(2024, 1, 2, 9)] * 3, pa.timestamp("us"))),
    ("timestamp", pa.array([dt.datetime(2024, 1, 2, 9)] * 3, pa.timestamp("ns", "Asia/Tokyo"))),
    ("position", pa.array([0, 1, None], pa.int64())),
    ("dwell_seconds", pa.array([1, None, None], pa.float64())),
    ("item_id", pa.array(["i1", "i2", "i3"], pa.large_string())),
    ("user_id", pa.array(["u1"] * 3).dictionary_encode()),
    ("dwell_seconds", pa.nulls(3)),
    ("dwell_seconds", None),
]


@pytest.mark.parametrize(("column", "values"), CONVERTIBLE)
def test_convertible_column_passes_for_an_import_only(log_builder, column, values):
    del log_builder.impressions[column]
    if values is not None:
        log_builder.impressions[column] = values
    log_builder.write()

    check(log_builder, convertible=True)
    assert re.search(rf"{IMPRESSIONS}, {column}: expected .*winnow import events", refusal(log_builder))


def test_value_that_does_not_fit_is_named(log_builder):
    log_builder.impressions["position"] = pa.array([0, 2**40, None], pa.int64())
    log_builder.write()

    message = refusal(log_builder, convertible=True)
    assert f"{IMPRESSIONS}, rows from 0, column position: expected int32" in message


BAD_CATALOGUES = [
    (
        "user_id",
        pa.array(["u1", "u2", "u1"]),
        "users.parquet, row 2, user_id",
        "no other row has, got 'u1', as in",
    ),
    ("user_id", pa.array(["u1", ""]), "users.parquet, row 1, user_id", "an id"),
    ("user_id", pa.array([], pa.string()), "users.parquet", "holds no row. Expected one for every user_id"),
    ("item_id", pa.array(["i1", "i2", "i1"]), "items.parquet, row 2, item_id", "no other row has"),
    ("title", pa.array(["a", None, "b"]), "items.parquet, row 1, title", "string, got None"),
    ("price", pa.array([1.0, np.nan, 1.0]), "items.parquet, row 1, price", "a finite number"),
    (
        "published_at",
        times(None, "1969-01-01", None),
        "items.parquet, row 1, published_at",
        "a time from 1970",
    ),
]


@pytest.mark.parametrize(("column", "values", "place", "expected"), BAD_CATALOGUES)
def test_bad_catalogue_is_named(log_builder, column, values, place, expected):
    table = log_builder.users if column == "user_id" else log_builder.items
    table[column] = values
    log_builder.write()
    message = refusal(log_builder)

    assert place in message
    assert expected in message


def test_empty_catalogue_is_named(log_builder):
    log_builder.items = {name: values[:0] for name, values in log_builder.items.items()}
    log_builder.write()

    assert "items.parquet: holds no row. Expected one for every item_id" in refusal(log_builder)


def test_a_column_of_both_users_and_items_is_named(log_builder):
    log_builder.users["title"] = pa.array(["Dr"] * len(log_builder.users["user_id"]))
    log_builder.write()

    message = refusal(log_builder)

    assert "users.parquet, title: expected a name that" in message
    assert "user_title" in message


def test_log_without_rows_is_refused(log_builder):
    log_builder.impressions = {name: values[:0] for name, values in log_builder.impressions.items()}
    log_builder.write()

    assert "impressions: holds no row" in refusal(log_builder)


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.98])
@pytest.mark.parametrize("name", ["users.parquet", "items.parquet", IMPRESSIONS])
def test_truncated_file_is_named(log_builder, name, keep):
    path = log_builder.write() / name
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])

    assert f"{name}: cannot be read as Parquet" in refusal(log_builder)


def test_damaged_page_is_named(log_builder):
    path = log_builder.write() / IMPRESSIONS
    content = bytearray(path.read_bytes())
    content[4:200] = b"\xff" * 196  # the footer is at the end and stays whole
    path.write_bytes(content)

    assert f"{IMPRESSIONS}: cannot be read as Parquet" in refusal(log_builder)


def test_row_repeated_on_another_day_is_named(log_builder):
    log_builder.write()
    later = log_builder.add_day("2024-01-03", request_id=pa.array(["r3", "r1", "r3"]))
    message = refusal(log_builder)

    assert f"{later}, row 1, request_id and item_id: expected a value that no other row has" in message
    assert f"got 'r1', 'i2', as in {log_builder.file}, row 1" in message


def test_repeated_rows_are_found_in_several_passes(log_builder, monkeypatch):
    monkeypatch.setattr(keys, "KEYS_PER_PASS", 1)
    log_builder.write()
    log_builder.add_day("2024-01-03")
    check(log_builder)
    log_builder.add_day("2024-01-04")

    message = refusal(log_builder)
    assert "date=2024-01-04/part-00000.parquet, row " in message
    assert f"as in {log_builder.path}/impressions/date=2024-01-03/part-00000.parquet, row " in message


@pytest.mark.parametrize("changes", [{"device": pa.array([1, 2, 3])}, {"city": pa.array(["a"] * 3)}])
def test_day_with_other_columns_is_named(log_builder, changes):
    log_builder.write()
    later = log_builder.add_day("2024-01-03", **changes)

    assert f"{later}, {next(iter(changes))}: expected " in refusal(log_builder)


def test_repeated_column_is_named(log_builder):
    log_builder.write()
    table = pa.table(
        [*log_builder.impressions.values(), pa.array([1, 2, 3])], [*log_builder.impressions, "device"]
    )
    pa.parquet.write_table(table, log_builder.file)

    assert f"{IMPRESSIONS}, device: expected one column of this name" in refusal(log_builder)


def test_row_numbers_count_through_batches(log_builder, monkeypatch):
    monkeypatch.setattr("sources.parquet_files.BATCH_ROWS", 2)
    log_builder.impressions["item_id"] = pa.array(["i1", "i2", "i9"])
    log_builder.write()

    assert "row 2, item_id: expected" in refusal(log_builder)


@given(ids=st.lists(st.text(min_size=1, max_size=3), min_size=2, max_size=6))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_users_are_refused_exactly_if_one_repeats(tmp_path, ids):
    path = tmp_path / "users.parquet"
    pa.parquet.write_table(pa.table({"user_id": pa.array(ids, pa.string())}), path)
    if len(set(ids)) == len(ids):
        keys.refuse_repeated([path], ["user_id"])
    else:
        first = next(row for row, value in enumerate(ids) if value in ids[:row])
        with pytest.raises(EventLogError, match=f"row {first}, user_id"):
            keys.refuse_repeated([path], ["user_id"])

"""Point-in-time features, against a plain loop and against events moved past a row's time."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given, settings
from hypothesis import strategies as st

from components.event_ingest import tables
from components.event_ingest.interactions import add_interactions
from schemas import features as f

COLUMNS = ("item_id", "category")
HISTORY = ("history_item_id", "history_category", "history_timestamp")


def build(rows, users, items):
    shown = tables.build_impressions(rows, users, items, COLUMNS)
    return add_interactions(shown, [f.Interaction("category", x) for x in f.Statistic])


def build_leaky(rows, users, items):
    """What a hurried join would do: a click counts from its impression on, known or not."""
    return build(
        rows.set_column(rows.column_names.index("clicked_at"), "clicked_at", rows["timestamp"]), users, items
    )


def reference_history(rows, items):
    """The definition, row by row: the user's clicks known before the row, oldest first, at most 50."""
    category = dict(zip(items["item_id"].to_pylist(), items["category"].to_pylist(), strict=True))
    records = rows.to_pylist()
    expected = []
    for row in records:
        if row["position"] is None:
            continue
        known = sorted(
            (other["clicked_at"], other["item_id"])
            for other in records
            if other["user_id"] == row["user_id"]
            and other["clicked"]
            and other["clicked_at"] < row["timestamp"]
        )[-f.HISTORY_SIZE :]
        expected.append(
            (
                row["request_id"],
                row["item_id"],
                [item for _, item in known],
                [category[item] for _, item in known],
                [int(at.timestamp() * 1000) for at, _ in known],
            )
        )
    return expected


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), num_requests=st.integers(1, 150), num_users=st.integers(1, 6))
def test_history_equals_the_plain_definition(make_log_tables, seed, num_requests, num_users):
    rows, users, items = make_log_tables(seed=seed, num_requests=num_requests, num_users=num_users)
    built = build(rows, users, items)
    columns = [built[name].to_pylist() for name in ("request_id", "item_id", *HISTORY)]
    assert list(zip(*columns, strict=True)) == reference_history(rows, items)


def features_of(table, request_id):
    """The features of a request's rows: everything but what came of them."""
    outcome = {"clicked", "clicked_at", "converted", "converted_at", "dwell_seconds"}
    kept = [name for name in table.column_names if name not in outcome]
    return table.filter(pc.equal(table["request_id"], request_id)).select(kept).to_pylist()


def find_leaks(build_rows, rows, users, items):
    """Moves each click from before to after each later request's time and reports the rows that change.

    A click known only after a request must be as good as no click at all to it.
    """
    leaks = []
    before = build_rows(rows, users, items)
    times = dict(zip(rows["request_id"].to_pylist(), rows["timestamp"].to_pylist(), strict=True))
    records = rows.to_pylist()
    for number, row in enumerate(records):
        if not row["clicked"]:
            continue
        unclicked = {**row, "clicked": False, "clicked_at": None, "converted": False, "converted_at": None}
        without = pa.Table.from_pylist([*records[:number], unclicked, *records[number + 1 :]], rows.schema)
        after = build_rows(without, users, items)
        for request, at in times.items():
            if row["clicked_at"] >= at and features_of(before, request) != features_of(after, request):
                leaks.append((request, row["item_id"]))
    return leaks


def test_an_event_known_after_a_row_changes_no_feature_of_it(make_log_tables):
    assert find_leaks(build, *make_log_tables(seed=3, num_requests=25, num_users=2)) == []


def test_a_request_made_at_or_after_a_row_changes_no_feature_of_it(make_log_tables):
    rows, users, items = make_log_tables(seed=3, num_requests=25, num_users=2)
    times = dict(zip(rows["request_id"].to_pylist(), rows["timestamp"].to_pylist(), strict=True))
    before, num_changed = build(rows, users, items), 0
    for later, later_at in times.items():
        after = build(rows.filter(pc.not_equal(rows["request_id"], later)), users, items)
        for request, at in times.items():
            is_changed = request != later and features_of(before, request) != features_of(after, request)
            assert at > later_at or not is_changed, (request, later)
            num_changed += is_changed
    assert num_changed, "an earlier request changes what is known"


def test_the_leak_check_catches_a_leak(make_log_tables):
    assert find_leaks(build_leaky, *make_log_tables(seed=3, num_requests=25, num_users=2))


def test_shifting_a_click_past_the_row_removes_it_and_back_restores_it(make_log_tables):
    rows, users, items = make_log_tables(seed=1, num_requests=2, num_users=1)
    records = rows.to_pylist()
    first, second = sorted({r["timestamp"] for r in records})
    for r in records:
        r.update(clicked=False if r["position"] is not None else None, clicked_at=None)
        r.update(converted=r["clicked"], converted_at=None, dwell_seconds=None)
    click = next(r for r in records if r["timestamp"] == first and r["position"] == 0)
    later = next(r for r in records if r["timestamp"] == second)["request_id"]
    histories = {}
    for name, at in (
        ("before", second - dt.timedelta(milliseconds=1)),
        ("at", second),
        ("after", second + dt.timedelta(1)),
    ):
        click.update(clicked=True, clicked_at=at)
        table = build(pa.Table.from_pylist(records, rows.schema), users, items)
        histories[name] = features_of(table, later)[0]["history_item_id"]
    assert histories == {"before": [click["item_id"]], "at": [], "after": []}


def test_a_conversion_that_was_not_reported_did_not_happen(make_log_tables):
    rows, users, items = make_log_tables(seed=2, num_requests=5, num_users=2)
    nothing = pa.chunked_array([pa.nulls(rows.num_rows, pa.bool_())])
    rows = rows.set_column(rows.column_names.index("converted"), "converted", nothing)
    table = build(rows, users, items)
    assert table.num_rows and table["converted"].to_pylist() == [False] * table.num_rows


def test_history_keeps_the_newest_fifty():
    at = [dt.datetime(2024, 1, 1, 0, i, tzinfo=dt.timezone.utc) for i in range(60)]
    clicks = pa.table(
        {
            "user_id": ["u"] * 60,
            "item_id": [f"i{i:02d}" for i in range(60)],
            "clicked_at": pa.array(at, pa.timestamp("ms", tz="UTC")),
        }
    )
    request = pa.table(
        {"user_id": ["u", "v"], "timestamp": pa.array([at[59]] * 2, pa.timestamp("ms", tz="UTC"))}
    )
    history = tables.add_history(request, clicks, ("item_id",))["history_item_id"].to_pylist()
    assert history == [[f"i{i:02d}" for i in range(9, 59)], []]


def test_pages_align_their_lists_and_hold_every_candidate(make_log_tables):
    rows, users, items = make_log_tables(seed=2, num_requests=20)
    pages = tables.build_pages(rows, users, items, COLUMNS).to_pylist()
    assert [p["request_id"] for p in pages] == sorted(set(rows["request_id"].to_pylist()))
    for page in pages:
        source = [r for r in rows.to_pylist() if r["request_id"] == page["request_id"]]
        by_item = {r["item_id"]: r for r in source}
        assert sorted(page["candidate_item_id"]) == sorted(by_item)
        shown = [p for p in page["candidate_position"] if p >= 0]
        assert shown == sorted(shown) and page["candidate_position"][: len(shown)] == shown
        for place, item in enumerate(page["candidate_item_id"]):
            row = by_item[item]
            assert page["candidate_position"][place] == (-1 if row["position"] is None else row["position"])
            assert page["candidate_clicked"][place] == bool(row["clicked"])
            assert page["candidate_converted"][place] == bool(row["converted"])
            assert page["candidate_dwell_seconds"][place] == (row["dwell_seconds"] or 0.0)


def test_a_row_keeps_its_own_value_where_the_profile_has_the_column_too():
    rows = pa.table({"user_id": ["u", "v"], "city": ["here", "there"]})
    users = pa.table({"user_id": ["v", "u"], "city": ["home", "home"], "age": [1, 2]})
    assert tables.join(rows, users, "user_id").to_pydict() == {
        "user_id": ["u", "v"],
        "city": ["here", "there"],
        "age": [2, 1],
    }


def test_history_bounds_refuse_nothing_at_the_edges():
    begin, end = tables.history_bounds(
        np.array([0, 1]), np.array([5, 5]), np.array([], np.int64), np.array([], np.int64)
    )
    assert begin.tolist() == end.tolist() == [0, 0]

"""What a user did with an item's shop or genre before, against plain loops over the log."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.event_ingest import tables
from components.event_ingest.interactions import add_interactions
from schemas import features as f

COLUMNS = ("category", "shop_id", "genres", "release_year")
INTERACTIONS = [f.Interaction(column, statistic) for column in COLUMNS for statistic in f.Statistic]
NAMES = [x.name for x in INTERACTIONS]
# Some items have no shop, and one shares nothing with another.
SHOPS = ["s1", None, "s1", "s2", None, "s2", "s3"]
GENRES = [["a", "b"], ["b"], [], None, ["a", "c", "b"], ["c"], ["a", None]]
YEARS = [1990, 1990, None, 2000, 0, 2000, 0]


def add_columns(items):
    return (
        items.append_column("shop_id", pa.array(SHOPS))
        .append_column("genres", pa.array(GENRES))
        .append_column("release_year", pa.array(YEARS, pa.int16()))
    )


def build(rows, users, items):
    shown = tables.build_impressions(rows, users, add_columns(items), ("item_id",))
    return add_interactions(shown, INTERACTIONS)


def values_of(item, column):
    value = item[column]
    values = value if isinstance(value, list) else [value]
    return [x for x in values if x is not None]


def reference_row(row, shown, items):
    """The definition, for one row: its interactions, in the order of `INTERACTIONS`."""
    at, found = row["timestamp"], []
    for column in COLUMNS:
        values = values_of(items[row["item_id"]], column)
        if not values:
            found += [None, None, None]
            continue
        mine = [
            other
            for value in values
            for other in shown
            if other["user_id"] == row["user_id"] and value in values_of(items[other["item_id"]], column)
        ]
        clicked = [x["clicked_at"] for x in mine if x["clicked"] and x["clicked_at"] < at]
        impressions = [x for x in mine if x["timestamp"] < at]
        age = (at - max(clicked)).total_seconds() if clicked else None
        found += [len(clicked), len(impressions), age]
    return found


def reference(rows, items):
    items = {item["item_id"]: item for item in add_columns(items).to_pylist()}
    shown = [row for row in rows.to_pylist() if row["position"] is not None]
    return [reference_row(row, shown, items) for row in shown]


def found_in(table):
    return [list(row) for row in zip(*(table[name].to_pylist() for name in NAMES), strict=True)]


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), num_requests=st.integers(1, 80), num_users=st.integers(1, 6))
def test_interactions_equal_the_plain_definition(make_log_tables, seed, num_requests, num_users):
    rows, users, items = make_log_tables(seed=seed, num_requests=num_requests, num_users=num_users)
    assert found_in(build(rows, users, items)) == reference(rows, items)


def test_the_random_logs_have_what_makes_it_difficult(make_log_tables):
    rows, users, items = make_log_tables(seed=3, num_requests=80, num_users=2)
    table = build(rows, users, items)
    shown = [row for row in rows.to_pylist() if row["position"] is not None]
    times = {row["timestamp"] for row in shown}
    assert any(row["clicked_at"] in times for row in shown), "a click becomes known as a request is made"
    assert len(times) < len({row["request_id"] for row in shown}), "two requests at one time"
    for column, statistic in (("shop_id", "clicks"), ("genres", "clicks"), ("genres", "click_age_seconds")):
        counts = table[f"user_{column}_{statistic}"].to_pylist()
        assert None in counts and max(x for x in counts if x is not None) > 2


def at(minute):
    return dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc) + dt.timedelta(minutes=minute)


def make_shown(*rows, **columns):
    """Shown rows of one user, given as (minute, shop, minute of the click or None)."""
    minutes, shops, clicks = zip(*rows, strict=True)
    times = pa.timestamp("ms", tz="UTC")
    return pa.table(
        {
            "user_id": ["u"] * len(rows),
            "shop_id": pa.array(shops, pa.string()),
            "timestamp": pa.array([at(x) for x in minutes], times),
            "position": range(len(rows)),
            "clicked": [x is not None for x in clicks],
            "clicked_at": pa.array([None if x is None else at(x) for x in clicks], times),
            **columns,
        }
    )


def test_interactions_by_hand():
    shown = make_shown(
        (0, "s", 1),  # known a minute later
        (0, "s", None),  # of the same request
        (1, "s", None),  # as the click becomes known: not before it
        (2, "s", 9),  # a click known after all that follows
        (5, "s", None),
        (5, "t", None),
        (6, None, 7),
        (8, None, None),  # two items without a shop have no shop in common
    )
    table = add_interactions(shown, [f.Interaction("shop_id", x) for x in f.Statistic])
    assert table["user_shop_id_clicks"].to_pylist() == [0, 0, 0, 1, 1, 0, None, None]
    assert table["user_shop_id_impressions"].to_pylist() == [0, 0, 2, 3, 4, 0, None, None]
    ages = table["user_shop_id_click_age_seconds"].to_pylist()
    assert ages == [None, None, None, 60.0, 240.0, None, None, None]


def test_the_whole_log_counts_not_the_latest_fifty_clicks():
    shown = make_shown(*((minute, "s", minute) for minute in range(120)))
    table = add_interactions(shown, [f.Interaction("shop_id", f.Statistic.CLICKS)])
    assert table["user_shop_id_clicks"].to_pylist() == list(range(120))


@pytest.mark.parametrize("num_clicks", [0, 1])
def test_nothing_known_is_no_click_and_no_age(num_clicks):
    shown = make_shown((0, "s", 0 if num_clicks else None))
    table = add_interactions(shown, [f.Interaction("shop_id", x) for x in f.Statistic])
    assert table.select(table.column_names[-3:]).to_pylist() == [
        {
            "user_shop_id_clicks": 0,
            "user_shop_id_impressions": 0,
            "user_shop_id_click_age_seconds": None,
        }
    ]


def test_no_rows_have_no_interactions():
    shown = make_shown((0, "s", None)).slice(0, 0)
    assert found_in(add_interactions(add_columns_of_no_rows(shown), INTERACTIONS)) == []


def add_columns_of_no_rows(shown):
    return (
        shown.append_column("category", pa.array([], pa.string()))
        .append_column("genres", pa.array([], pa.list_(pa.string())))
        .append_column("release_year", pa.array([], pa.int16()))
    )


def test_a_column_that_the_log_lacks_is_left_out():
    shown = make_shown((0, "s", 0))
    assert add_interactions(shown, [f.Interaction("brand", f.Statistic.CLICKS)]) == shown


def test_dictionaries_and_slices_are_columns_like_others(make_log_tables):
    rows, users, items = make_log_tables(seed=5, num_requests=40)
    table = tables.build_impressions(rows, users, add_columns(items), ("item_id",))
    encoded = table.set_column(
        table.column_names.index("shop_id"), "shop_id", table["shop_id"].combine_chunks().dictionary_encode()
    )
    expected = found_in(add_interactions(table, INTERACTIONS))
    assert found_in(add_interactions(encoded, INTERACTIONS)) == expected
    doubled = pa.concat_tables([table, table]).combine_chunks().slice(table.num_rows)
    assert found_in(add_interactions(doubled, INTERACTIONS)) == expected


def test_time_in_milliseconds_is_kept():
    times = pa.array([1_000_000, 1_000_001], pa.timestamp("ms", tz="UTC"))
    shown = make_shown((0, "s", 0), (0, "s", None))
    shown = shown.set_column(2, "timestamp", times).set_column(
        5, "clicked_at", pa.array([1_000_000, None], times.type)
    )
    ages = add_interactions(shown, [f.Interaction("shop_id", f.Statistic.CLICK_AGE_SECONDS)])
    np.testing.assert_allclose(ages["user_shop_id_click_age_seconds"].to_pylist()[1], 0.001)

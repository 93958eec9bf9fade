"""Negatives for logs that hold clicks alone."""

import datetime as dt
import glob

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv

from components.event_ingest import ingest
from components.event_ingest.negatives import check_columns, draw_negatives, lacks_negatives
from components.event_ingest.tables import build_impressions
from schemas import features as f
from sources.event_log import EventLog, Manifest, create_event_log
from sources.marketplace import MarketplaceConfig, simulate

SPLITS = ("train", "eval", "test")
TIME = pa.timestamp("ms", tz="UTC")
DAY_MS = 86_400_000
OF_REQUEST = {"request_id", "user_id", "timestamp", "device"}


def make_rows(users, items, days):
    count = len(users)
    times = pa.array(np.asarray(days) * DAY_MS, TIME)
    return pa.table(
        {
            "request_id": [f"r{n}" for n in range(count)],
            "user_id": [f"u{x}" for x in users],
            "item_id": [f"i{x}" for x in items],
            "position": pa.array(np.zeros(count), pa.int32()),
            "timestamp": times,
            "clicked": np.ones(count, bool),
            "clicked_at": times,
            "converted": np.ones(count, bool),
            "converted_at": times,
            "dwell_seconds": pa.array(np.ones(count), pa.float32()),
            "rating": np.full(count, 5.0),
            "device": [f"d{x % 2}" for x in users],
        }
    )


@pytest.fixture(scope="module")
def rows():
    """Items of uneven popularity; those of the second split are never clicked in the first."""
    rng = np.random.default_rng(3)
    count = 4000
    days = np.sort(rng.integers(0, 2, count))
    items = np.minimum(rng.geometric(0.05, count), 80) + 100 * days
    return make_rows(rng.integers(0, 400, count), items, days)


@pytest.fixture(scope="module")
def drawn(rows):
    return draw_negatives(rows, split_of(rows), 3, OF_REQUEST, seed=1)


def read(uri, *splits):
    """Examples as {feature: list of values}."""
    files = [file for split in splits for file in sorted(glob.glob(f"{uri}/Split-{split}/*.gz"))]
    examples = [tf.train.Example.FromString(x.numpy()) for x in tf.data.TFRecordDataset(files, "GZIP")]
    return [
        {
            name: list(getattr(x, x.WhichOneof("kind")).value)
            for name, x in e.features.feature.items()
            if x.WhichOneof("kind")
        }
        for e in examples
    ]


def ingest_log(log, folder, per_click):
    uris = {kind.value: str(folder / kind.value) for kind in f.ExampleType}
    fractions = ingest.SplitFractions(0.2, 0.2)
    return uris, ingest.ingest_events(str(log), uris, fractions, beam.Pipeline(), per_click)


def split_of(rows):
    return rows.column("timestamp").cast(pa.int64()).to_numpy() // DAY_MS


def test_a_drawn_row_is_of_its_click_s_request_and_has_nothing_of_the_clicked_item(rows, drawn):
    assert drawn.schema == rows.schema
    clicks = {row["request_id"]: row for row in rows.to_pylist()}
    for row in drawn.to_pylist():
        click = clicks[row["request_id"]]
        assert all(row[name] == click[name] for name in OF_REQUEST)
        assert row["clicked"] is False
        for name in ("position", "clicked_at", "converted", "converted_at", "dwell_seconds", "rating"):
            assert row[name] is None
    requests = [row["request_id"] for row in drawn.to_pylist()]
    counts = np.unique(requests, return_counts=True)[1]
    assert len(counts) == rows.num_rows and (counts == 3).all()
    pairs = set(zip(requests, drawn.column("item_id").to_pylist(), strict=True))
    assert len(pairs) == drawn.num_rows, "an item twice in one request"


def test_what_a_user_clicked_at_any_time_is_never_drawn_for_them(rows, drawn):
    clicked = set(zip(*(rows.column(x).to_pylist() for x in ("user_id", "item_id")), strict=True))
    assert clicked.isdisjoint(
        zip(*(drawn.column(x).to_pylist() for x in ("user_id", "item_id")), strict=True)
    )


def test_items_are_drawn_as_often_as_they_are_clicked_in_the_same_split():
    """With so many users that what each has clicked hardly matters."""
    rng = np.random.default_rng(5)
    count = 20_000
    rows = make_rows(np.arange(count), rng.choice(4, count, p=[0.5, 0.3, 0.15, 0.05]), np.zeros(count, int))
    drawn = draw_negatives(rows, split_of(rows), 1, OF_REQUEST, seed=1)
    clicked_item = dict(zip(*(rows.column(x).to_pylist() for x in ("request_id", "item_id")), strict=True))
    beside = [clicked_item[x] for x in drawn.column("request_id").to_pylist()]
    items = np.array(drawn.column("item_id").to_pylist())[np.array(beside) == "i3"]
    shares = [np.mean(items == f"i{x}") for x in range(4)]
    assert shares == pytest.approx([0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0.0], abs=0.06)


def test_splits_do_not_mix(rows, drawn):
    numbers = np.array([int(x[1:]) for x in drawn.column("item_id").to_pylist()])
    np.testing.assert_array_equal(numbers >= 100, split_of(drawn) == 1)


def test_equal_logs_give_equal_draws_in_whatever_order_they_are_read(rows, drawn):
    turned = rows.take(pa.array(np.arange(rows.num_rows)[::-1]))
    again = draw_negatives(turned, split_of(turned), 3, OF_REQUEST, seed=1)
    assert again.equals(drawn)
    other = draw_negatives(rows, split_of(rows), 3, OF_REQUEST, seed=2)
    assert not other.equals(drawn)


def test_a_user_who_clicked_everything_has_no_negative():
    rows = make_rows([0, 0, 1], [0, 1, 0], [0, 0, 0])
    drawn = draw_negatives(rows, split_of(rows), 2, OF_REQUEST, seed=1)
    assert drawn.select(["request_id", "item_id"]).to_pylist() == [{"request_id": "r2", "item_id": "i1"}]


def test_a_request_of_several_clicks_holds_an_item_once():
    """One request, in which one user clicked four of ten items; the other six are drawn once each."""
    others = make_rows([1] * 10, range(10), [0] * 10)
    clicks = make_rows([0] * 4, range(4), [0] * 4)
    clicks = clicks.set_column(0, "request_id", pa.array(["several"] * 4))
    rows = pa.concat_tables([clicks, others])
    drawn = draw_negatives(rows, split_of(rows), 6, OF_REQUEST, seed=1)
    items = [row["item_id"] for row in drawn.to_pylist() if row["request_id"] == "several"]
    assert sorted(items) == [f"i{x}" for x in range(4, 10)]


def test_a_column_that_rows_and_items_have_is_the_drawn_item_s():
    rows = make_rows([0, 1, 2], [0, 1, 2], [0, 0, 0])
    at_request = pa.array([100.0, 101.0, 102.0], pa.float32())
    rows = rows.append_column("price", at_request)
    items = pa.table({"item_id": ["i0", "i1", "i2"], "price": [0.0, 1.0, 2.0], "colour": ["a", "b", "c"]})
    users = pa.table({"user_id": ["u0", "u1", "u2"], "age": [20, 30, 40]})
    drawn = draw_negatives(rows, split_of(rows), 2, OF_REQUEST, seed=1)
    table = build_impressions(rows, users, items, [], drawn).to_pylist()
    assert len(table) == 9
    for row in table:
        number = int(row["item_id"][1:])
        assert row["price"] == number + 100 * row["clicked"]
        assert row["colour"] == "abc"[number] and row["age"] == 20 + 10 * int(row["user_id"][1:])


def test_a_feature_of_the_items_that_the_impressions_alone_have_is_refused():
    schema = f.load_schema("marketplace", f.ExampleType.IMPRESSION)
    columns = ["request_id", "user_id", "item_id", "price", "dwell_seconds", "device"]
    check_columns(columns, ["item_id", "price"], schema)
    with pytest.raises(ValueError, match="drawn, which have no price: it stands in the impressions alone"):
        check_columns(columns, ["item_id"], schema)


def test_no_click_no_draw(rows):
    nothing = rows.slice(0, 0)
    assert draw_negatives(nothing, split_of(nothing), 2, OF_REQUEST, seed=1).num_rows == 0


def test_a_log_of_clicks_alone_is_known_and_given_negatives(tmp_path):
    """Through Beam: each click's request has its drawn rows, with interactions and history of their own."""
    rng = np.random.default_rng(4)
    count = 300
    rows = make_rows(
        rng.integers(0, 20, count), rng.integers(0, 30, count), np.sort(rng.integers(0, 6, count))
    )
    rows = rows.drop(["rating", "device"])
    users = pa.table({"user_id": [f"u{x}" for x in range(20)]})
    items = pa.table(
        {
            "item_id": [f"i{x}" for x in range(30)],
            "title": [f"t{x}" for x in range(30)],
            "category": [f"c{x % 3}" for x in range(30)],
            "published_at": pa.nulls(30, TIME),
        }
    )
    with create_event_log(tmp_path / "log", Manifest(source="events", schema="core")) as writer:
        writer.write_users(users)
        writer.write_items(items)
        for day in range(6):
            part = rows.filter(pa.array(split_of(rows) == day))
            writer.write_impressions(dt.date(1970, 1, 1) + dt.timedelta(days=day), part)
    uris, ingested = ingest_log(tmp_path / "log", tmp_path, 2)
    assert ingested.drawn_per_click == 2
    assert sum(ingested.num_rows["impression", x] for x in SPLITS) == 3 * count
    drawn = [x for x in read(uris["impression"], *SPLITS) if not x.get("position")]
    assert len(drawn) == 2 * count and not any(x["clicked"][0] for x in drawn)
    statistics = tfdv.generate_statistics_from_tfrecord(f"{uris['impression']}/Split-train/*.gz")
    anomalies = tfdv.validate_statistics(statistics, f.load_schema("core", f.ExampleType.IMPRESSION))
    assert dict(anomalies.anomaly_info) == {}, "what is drawn is not what the schema asks for"
    category = {f"i{x}".encode(): f"c{x % 3}" for x in range(30)}
    clicks = [(r["user_id"], category[r["item_id"].encode()], r["timestamp"]) for r in rows.to_pylist()]
    for example in drawn:
        user, item = example["user_id"][0].decode(), example["item_id"][0]
        time = dt.datetime.fromtimestamp(example["timestamp"][0] / 1000, dt.timezone.utc)
        before = [x for x in clicks if x[0] == user and x[1] == category[item] and x[2] < time]
        assert example["user_category_clicks"] == [len(before)]
        assert example["user_category_impressions"] == [len(before)], "drawn rows were not shown"
        assert example["category"] == [category[item].encode()]


def test_a_log_that_shows_what_was_passed_over_keeps_its_own_rows(tmp_path):
    simulate(MarketplaceConfig(num_users=20, num_items=100, num_shops=60, num_days=5), tmp_path / "log")
    uris, ingested = ingest_log(tmp_path / "log", tmp_path, 2)
    assert ingested.drawn_per_click == 0
    assert all(x["position"] for x in read(uris["impression"], *SPLITS))


def test_a_candidate_that_was_not_shown_is_no_negative(tmp_path):
    rows = make_rows([0, 1], [0, 1], [0, 0]).drop(["rating", "device"])
    not_shown = draw_negatives(rows, split_of(rows), 1, OF_REQUEST, seed=1)
    assert not_shown.num_rows == 2
    null = pa.nulls(2, pa.bool_())
    not_shown = not_shown.set_column(not_shown.schema.get_field_index("clicked"), "clicked", null)
    with create_event_log(tmp_path / "log", Manifest(source="events", schema="core")) as writer:
        writer.write_impressions(dt.date(1970, 1, 1), pa.concat_tables([rows, not_shown]))
        writer.write_users(pa.table({"user_id": ["u0", "u1"]}))
        writer.write_items(
            pa.table(
                {
                    "item_id": ["i0", "i1"],
                    "title": ["", ""],
                    "category": ["c", "c"],
                    "published_at": pa.nulls(2, TIME),
                }
            )
        )
    assert lacks_negatives(EventLog(tmp_path / "log"))

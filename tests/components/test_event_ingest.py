"""Ingestion as a whole, through Beam, and the encoding of examples."""

import datetime as dt
import glob
import itertools

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from components.event_ingest import ingest
from components.event_ingest.examples import encode_examples
from components.event_ingest.splits import compute_split_days, split_of
from schemas import features as f
from sources.event_log import EventLogError, Manifest, create_event_log
from sources.marketplace import MarketplaceConfig, simulate

DAYS = [dt.date(2024, 1, day) for day in range(1, 11)]


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "events"
    simulate(MarketplaceConfig(num_users=60, num_items=150, num_shops=60, num_days=5), path)
    return path


def run_ingest(events, out):
    uris = {kind.value: str(out / kind.value) for kind in f.ExampleType}
    return uris, ingest.ingest_events(str(events), uris, ingest.SplitFractions(0.2, 0.2), beam.Pipeline())


def read(uri, split):
    files = sorted(glob.glob(f"{uri}/Split-{split}/*.gz"))
    return [tf.train.Example.FromString(r.numpy()) for r in tf.data.TFRecordDataset(files, "GZIP")]


def values(example, name):
    feature = example.features.feature[name]
    kind = feature.WhichOneof("kind")
    return list(getattr(feature, kind).value) if kind else []


def test_ingest_writes_every_row_once_and_splits_by_whole_days(events, tmp_path):
    uris, ingested = run_ingest(events, tmp_path)
    counts = ingested.num_rows
    rows = pa.concat_tables([pq.read_table(p) for p in sorted(events.glob("impressions/*/*.parquet"))])
    shown = [
        r for r in rows.select(["request_id", "item_id", "position"]).to_pylist() if r["position"] is not None
    ]
    found, last = [], -1
    for split in ("train", "eval", "test"):
        examples = read(uris["impression"], split)
        assert len(examples) == counts["impression", split] > 0
        times = [values(x, "timestamp")[0] for x in examples]
        assert min(times) // 86_400_000 > last
        last = max(times) // 86_400_000
        days = [dt.datetime.fromtimestamp(t / 1000, dt.timezone.utc).date() for t in (min(times), max(times))]
        assert ingested.days[split] == tuple(days)
        found += [(values(x, "request_id")[0].decode(), values(x, "item_id")[0].decode()) for x in examples]
        assert len(read(uris["page"], split)) == counts["page", split] > 0
    assert sorted(found) == sorted((r["request_id"], r["item_id"]) for r in shown)
    assert len(read(uris["item"], ingest.CATALOGUE)) == counts["item", ingest.CATALOGUE] == 150


def test_the_rows_of_a_request_lie_side_by_side_and_requests_are_spread(events, tmp_path):
    uris, _ = run_ingest(events, tmp_path)
    for split in ("train", "eval", "test"):
        examples = read(uris["impression"], split)
        requests = [values(x, "request_id")[0] for x in examples]
        assert 1 + sum(a != b for a, b in itertools.pairwise(requests)) == len(set(requests)) < len(requests)
        times = [values(x, "timestamp")[0] for x in examples]
        assert abs(np.corrcoef(np.arange(len(times)), times)[0, 1]) < 0.5, "the log is in the order of time"


def test_impressions_have_the_interactions_that_the_schema_names(events, tmp_path):
    uris, _ = run_ingest(events, tmp_path)
    examples = read(uris["impression"], "train")
    for name in ("user_shop_id_clicks", "user_brand_impressions"):
        assert {type(x) for example in examples for x in values(example, name)} == {int}, name
        assert max(x for example in examples for x in values(example, name)) > 0, name
    ages = [x for example in examples for x in values(example, "user_shop_id_click_age_seconds")]
    assert 0 < len(ages) < len(examples) and min(ages) > 0


def test_one_shard_or_many_give_the_same_examples(events, tmp_path, monkeypatch):
    one, _ = run_ingest(events, tmp_path / "one")
    monkeypatch.setattr(ingest, "ROWS_PER_SHARD", 1000)
    many, _ = run_ingest(events, tmp_path / "many")
    assert len(glob.glob(f"{many['impression']}/Split-train/*")) > 3
    for kind in ("impression", "page"):
        for split in ("train", "eval", "test"):
            first, second = (
                sorted(x.SerializeToString(deterministic=True) for x in read(uris[kind], split))
                for uris in (one, many)
            )
            assert first == second


def test_files_read_together_or_alone_give_the_same_examples(events, tmp_path, monkeypatch):
    together, counts = run_ingest(events, tmp_path / "together")
    monkeypatch.setattr(ingest, "ROWS_PER_READ", 1)
    alone, same_counts = run_ingest(events, tmp_path / "alone")
    assert counts == same_counts
    for kind in ("impression", "page"):
        for split in ("train", "eval", "test"):
            first, second = (
                sorted(x.SerializeToString(deterministic=True) for x in read(uris[kind], split))
                for uris in (together, alone)
            )
            assert first == second


def test_small_files_are_read_together_and_large_ones_alone(monkeypatch):
    monkeypatch.setattr(ingest, "ROWS_PER_READ", 100)
    sizes = {"a": 40, "b": 40, "c": 30, "d": 250, "e": 0, "f": 10, "g": 100}
    groups = ingest.group_files(sizes)
    assert [path for group in groups for path in group] == list(sizes)
    assert groups == [["a", "b", "c"], ["d"], ["e", "f", "g"]]
    for group in groups:
        assert sum(sizes[path] for path in group[:-1]) < 100


def test_a_zero_is_a_value_and_a_null_is_missing(events, tmp_path):
    uris, _ = run_ingest(events, tmp_path)
    examples = read(uris["impression"], "train")
    clicked = [values(x, "clicked") for x in examples]
    assert {tuple(c) for c in clicked} == {(0,), (1,)}
    assert all(bool(values(x, "dwell_seconds")) == bool(c[0]) for x, c in zip(examples, clicked, strict=True))


def test_encode_examples_takes_the_schema_s_types_and_drops_other_columns():
    schema = f.load_schema("marketplace", "item")
    table = pa.table(
        {
            "item_id": ["a", "é"],
            "title": pa.array(["", None]),
            "category": pa.array(["x", "y"]).dictionary_encode(),
            "price": pa.array([0.0, None], pa.float64()),
            "group_priority": pa.array([0, 3], pa.int8()),
            "published_at": pa.array([-1, 5], pa.timestamp("ms", tz="UTC")),
            "internal": [1, 2],
        }
    )
    first, second = (tf.train.Example.FromString(x) for x in encode_examples(table, schema))
    assert set(first.features.feature) == set(table.column_names) - {"internal"}
    assert [values(first, n) for n in ("title", "price", "group_priority", "published_at")] == [
        [b""],
        [0.0],
        [0],
        [-1],
    ]
    assert [values(second, n) for n in ("item_id", "title", "price")] == [["é".encode()], [], []]


def test_ingest_refuses_a_broken_log_and_names_the_row(tmp_path, make_log_tables):
    rows, users, items = make_log_tables(num_requests=5)
    with create_event_log(tmp_path / "log", Manifest("test", "core")) as writer:
        writer.write_users(users.slice(0, 1))
        writer.write_items(items)
        writer.write_impressions(dt.date(2024, 1, 1), rows)
    with pytest.raises(EventLogError, match=r"date=2024-01-01.*row.*user_id"):
        run_ingest(tmp_path / "log", tmp_path / "out")


def test_ingest_refuses_a_log_too_short_to_split(tmp_path, make_log_tables):
    rows, users, items = make_log_tables(num_requests=5)
    with create_event_log(tmp_path / "log", Manifest("test", "core")) as writer:
        writer.write_users(users)
        writer.write_items(items)
        writer.write_impressions(dt.date(2024, 1, 1), rows)
    with pytest.raises(ValueError, match="1 day.*at least 4"):
        run_ingest(tmp_path / "log", tmp_path / "out")


def test_split_days_by_hand():
    assert compute_split_days(dict.fromkeys(DAYS, 10), 0.1, 0.2) == (DAYS[7], DAYS[8])
    assert compute_split_days(dict(zip(DAYS[:4], (1, 1, 1, 997), strict=True)), 0.1, 0.1) == (
        DAYS[2],
        DAYS[3],
    )


@given(
    st.lists(st.integers(1, 1000), min_size=4, max_size=10),
    st.floats(0.01, 0.4),
    st.floats(0.01, 0.4),
)
def test_every_split_keeps_a_day_and_the_order_of_time(rows, evaluation, test):
    days = dict(zip(DAYS, rows, strict=False))
    eval_day, test_day = compute_split_days(days, evaluation, test)
    assert DAYS[1] < eval_day < test_day <= max(days)


def test_split_of_cuts_at_midnight():
    midnight = int(dt.datetime(2024, 1, 2, tzinfo=dt.timezone.utc).timestamp() * 1000)
    times = np.array([midnight - 1, midnight, midnight + 86_400_000])
    assert split_of(times, DAYS[1], DAYS[2]).tolist() == [0, 1, 2]

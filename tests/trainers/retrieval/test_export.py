"""Dense raw features as clients send them, back to the lists that ingestion writes."""

import pyarrow as pa
import pytest
import tensorflow as tf

from components.event_ingest import tables
from components.event_ingest.examples import encode_examples
from schemas import features as f
from trainers.raw_features import unpad

NONE = {tf.string: "", tf.int64: tf.int64.min, tf.float32: tf.float32.min}
TYPES = {"history_item_id": tf.string, "history_brand": tf.string, "history_price": tf.float32}
TYPES["history_timestamp"] = tf.int64


def to_lists(values):
    return values.to_list() if isinstance(values, tf.RaggedTensor) else values.numpy().tolist()


@pytest.fixture(scope="module")
def ingested():
    """The histories [3] that ingestion writes of clicks on items with and without a brand and a price."""
    clicks = pa.table(
        {
            "user_id": ["a", "a", "a", "b"],
            "item_id": ["i1", "i2", "i3", "i4"],
            "clicked_at": pa.array([1, 2, 3, 1], pa.timestamp("ms", tz="UTC")),
            "brand": ["b1", None, "b3", None],
            "price": pa.array([1.5, None, None, None], pa.float32()),
        }
    )
    times = pa.array([9, 3, 9, 9], pa.timestamp("ms", tz="UTC"))
    requests = pa.table({"user_id": ["a", "a", "b", "stranger"], "timestamp": times})
    table = tables.add_history(requests, clicks, ["item_id", "brand", "price"])
    schema = f.load_schema("marketplace", f.ExampleType.IMPRESSION)
    schema.feature.add(name="history_price", type=3)
    spec = {name: tf.io.RaggedFeature(dtype) for name, dtype in TYPES.items()}
    return tf.io.parse_example(encode_examples(table, schema), spec)


def test_missing_values_of_a_history_keep_their_place_as_in_ingestion(ingested):
    expected = {
        "history_item_id": [[b"i1", b"i2", b"i3"], [b"i1", b"i2"], [b"i4"], []],
        "history_brand": [[b"b1", b"", b"b3"], [b"b1", b""], [b""], []],
        "history_price": [[1.5, 0, 0], [1.5, 0], [0], []],
        "history_timestamp": [[1, 2, 3], [1, 2], [1], []],
    }
    dense = {
        "history_item_id": [["i1", "i2", "i3"], ["i1", "i2", ""], ["i4", "", ""], ["", "", ""]],
        "history_brand": [["b1", "", "b3"], ["b1", "", ""], ["", "", ""], ["", "", ""]],
        "history_price": [[1.5, None, None], [1.5, None, None], [None] * 3, [None] * 3],
        "history_timestamp": [[1, 2, 3], [1, 2, None], [1, None, None], [None] * 3],
    }
    for width in (3, 5):
        tensors = {}
        for name, rows in dense.items():
            none = NONE[TYPES[name]]
            filled = [[none if x is None else x for x in row] + [none] * (width - 3) for row in rows]
            tensors[name] = tf.constant(filled, TYPES[name])
        found = {name: to_lists(values) for name, values in unpad(tensors).items()}
        assert found == {name: to_lists(ingested[name]) for name in TYPES} == expected


def test_a_history_column_that_the_client_lacks_stays_empty():
    found = unpad(
        {"history_item_id": tf.constant([["i1", "i2"]]), "history_brand": tf.zeros([1, 0], tf.string)}
    )
    assert {name: to_lists(x) for name, x in found.items()} == {
        "history_item_id": [[b"i1", b"i2"]],
        "history_brand": [[]],
    }


def test_what_is_no_history_ends_by_itself_and_scalars_stay():
    inputs = {
        "timestamp": tf.constant([tf.int64.min, 3]),
        "gender": tf.constant([["f", ""], ["", ""]]),
        "tags": tf.constant([["", "x", ""], ["y", "", ""]]),
        "history_item_id": tf.constant([["i1", "i2"], ["", ""]]),
        "empty": tf.zeros([2, 0], tf.float32),
    }
    assert {name: to_lists(x) for name, x in unpad(inputs).items()} == {
        "timestamp": [tf.int64.min, 3],
        "gender": [[b"f"], []],
        "tags": [[b"", b"x"], [b"y"]],
        "history_item_id": [[b"i1", b"i2"], []],
        "empty": [[], []],
    }

from pipelines import tensorflow_setup  # noqa: F401, I001  (before TensorFlow)

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.prepared_examples import PreparedExamples
from benchmarks.retrieval.data import BenchmarkData

BLOCKS, BLOCK_ITEMS, BLOCK_USERS = 3, 8, 8


def _feature(value):
    if isinstance(value, int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
    values = [value] if isinstance(value, str) else value
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[v.encode() for v in values]))


def _write_split(folder, name, rows):
    path = folder / f"Split-{name}"
    path.mkdir(parents=True)
    with tf.io.TFRecordWriter(
        str(path / "part.gz"), tf.io.TFRecordOptions(compression_type="GZIP")
    ) as writer:
        for row in rows:
            features = {key: _feature(value) for key, value in row.items()}
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())


@pytest.fixture
def make_data(tmp_path):
    """Raw examples from (user, item, timestamp, history) rows, all clicked, as `BenchmarkData`."""

    def make(splits, items, exclude_seen=True):
        for name in ("train", "eval", "test"):
            rows = [
                {"user_id": user, "item_id": item, "timestamp": at, "clicked": 1, "history_item_id": history}
                for user, item, at, history in splits.get(name, ())
            ]
            _write_split(tmp_path / "impressions", name, rows)
        _write_split(tmp_path / "items", "catalogue", [{"item_id": item} for item in items])
        prepared = PreparedExamples(
            events_dir=Path(tmp_path),
            impressions_uri=str(tmp_path / "impressions"),
            item_patterns=[str(tmp_path / "items" / "*" / "*")],
            transformed_uri="",
            transform_graph_uri="",
        )
        return BenchmarkData(prepared, exclude_seen)

    return make


@pytest.fixture
def blocks(make_data):
    """Users who click all items of their own block but one; what they left out, a newcomer clicks later.

    User n of a block leaves out item n: every item of a block is equally popular, and all pairs of a block
    are. A newcomer whose history is all of a block but item n clicks item n next: whatever learns which items
    belong together ranks it first, and popularity does not.
    """
    names = np.array([[f"b{block}i{item}" for item in range(BLOCK_ITEMS)] for block in range(BLOCKS)])
    train = [
        (f"b{block}u{user}", str(names[block, item]), item, [])
        for block in range(BLOCKS)
        for user in range(BLOCK_USERS)
        for item in range(BLOCK_ITEMS)
        if item != user
    ]
    asked = {"eval": [], "test": []}
    for number, split in enumerate(asked):
        for block in range(BLOCKS):
            for left_out in range(BLOCK_ITEMS):
                user = f"new-{split}-{block}-{left_out}"
                history = [str(name) for name in np.delete(names[block], left_out)]
                asked[split].append((user, str(names[block, left_out]), 100 + number, history))
    return make_data({"train": train, **asked}, names.ravel().tolist())

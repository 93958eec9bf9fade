"""Rows that know the future are found, whatever made them."""

import pytest
import tensorflow as tf

from components.point_in_time import find_leaks


def write(folder, **splits):
    """Examples given by split as (timestamp, history timestamps), in milliseconds."""
    for split, rows in splits.items():
        path = folder / f"Split-{split}"
        path.mkdir()
        with tf.io.TFRecordWriter(str(path / "part.gz"), "GZIP") as writer:
            for at, history in rows:
                values = {"timestamp": [at], "history_timestamp": history}
                features = {
                    name: tf.train.Feature(int64_list=tf.train.Int64List(value=v))
                    for name, v in values.items()
                }
                writer.write(
                    tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
                )
    return list(find_leaks(str(folder), list(splits)))


GOOD = {"train": [(10, [1, 9]), (5, [])], "eval": [(11, [10])], "test": [(20, [11, 19])]}


def test_what_was_known_before_is_no_leak(tmp_path):
    assert write(tmp_path, **GOOD) == []


def test_a_split_without_rows_is_none(tmp_path):
    assert write(tmp_path, train=GOOD["train"], eval=[], test=GOOD["test"]) == []


@pytest.mark.parametrize(("known_at", "seconds"), [(20, "0.000"), (1520, "1.500")])
def test_an_event_at_or_after_the_row_is_one(tmp_path, known_at, seconds):
    (line,) = write(tmp_path, **{**GOOD, "test": [(20, [3]), (20, [1, known_at, known_at]), (30, [])]})
    assert line.startswith("split test: 1 of 3 rows have an event") and f"up to {seconds} s after" in line


@pytest.mark.parametrize(
    ("splits", "line"),
    [
        ({"eval": [(10, [])]}, "split train ends 1970-01-01 00:00:00.010+00:00, after split eval begins"),
        ({"test": [(9, []), (30, [])]}, "split train ends"),
        ({"eval": [(21, [])]}, "split eval ends"),
    ],
)
def test_splits_that_overlap_are_one(tmp_path, splits, line):
    assert write(tmp_path, **{**GOOD, **splits})[0].startswith(line)

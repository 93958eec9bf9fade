"""Rows that know the future are found, whatever made them."""

import pytest
import tensorflow as tf

from components.point_in_time import find_leaks
from schemas import features as f


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
    return list(find_leaks(str(folder), list(splits), ()))


GOOD = {"train": [(10, [1, 9]), (5, [])], "eval": [(11, [10])], "test": [(20, [11, 19])]}


def test_what_was_known_before_is_no_leak(tmp_path):
    assert write(tmp_path, **GOOD) == []


def test_a_split_without_rows_is_none(tmp_path):
    assert write(tmp_path, train=GOOD["train"], eval=[], test=GOOD["test"]) == []


@pytest.mark.parametrize(("known_at", "seconds"), [(20, "0.000"), (1520, "1.500")])
def test_an_event_at_or_after_the_row_is_one(tmp_path, known_at, seconds):
    (line,) = write(tmp_path, **{**GOOD, "test": [(20, [3]), (20, [1, known_at, known_at]), (30, [])]})
    assert line.startswith("split test: 1 of 3 rows have an event") and f"up to {seconds} s after" in line


OF_SHOPS = tuple(f.Interaction("shop_id", statistic) for statistic in f.Statistic)


def write_interactions(folder, *rows, interactions=OF_SHOPS):
    """Examples of a split with a shop's clicks, impressions and age; None is missing."""
    path = folder / "Split-train"
    path.mkdir()
    with tf.io.TFRecordWriter(str(path / "part.gz"), "GZIP") as writer:
        for clicks, impressions, age in rows:
            numbers = {
                "timestamp": 10,
                "user_shop_id_clicks": clicks,
                "user_shop_id_impressions": impressions,
            }
            example = tf.train.Example()
            for name, value in numbers.items():
                example.features.feature[name].int64_list.value.extend([] if value is None else [value])
            ages = example.features.feature["user_shop_id_click_age_seconds"].float_list
            ages.value.extend([] if age is None else [age])
            writer.write(example.SerializeToString())
    return list(find_leaks(str(folder), ["train"], interactions))


def test_interactions_known_before_are_no_leak(tmp_path):
    assert write_interactions(tmp_path, (None, None, None), (0, 0, None), (0, 3, None), (2, 2, 0.001)) == []


@pytest.mark.parametrize("age", [0.0, -0.5])
def test_a_click_of_the_row_s_own_time_or_later_is_a_leak(tmp_path, age):
    (line,) = write_interactions(tmp_path, (None, None, None), (1, 1, age), (1, 1, 3.0))
    assert line.startswith("split train: 1 of 3 rows have user_shop_id_click_age_seconds of 0 or less")


def test_more_clicks_than_impressions_are_a_leak(tmp_path):
    (line,) = write_interactions(tmp_path, (1, 0, 3.0), (2, 1, 3.0), (1, 1, 3.0))
    assert line.startswith("split train: 2 of 3 rows have more user_shop_id_clicks than user_shop_id_impress")


def test_a_column_of_the_log_is_no_interaction_whatever_its_name(tmp_path):
    assert write_interactions(tmp_path, (2, 1, -1.0), interactions=()) == []


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

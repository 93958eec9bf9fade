"""From transformed rows to requests and back: no row is lost, none gets into another's request."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from schemas import features as f
from trainers.layers.feature_embedding import PADDING
from trainers.preprocessing import REQUEST_KEY, TIMESTAMP_KEY, USER_KEY, EncodedFeature
from trainers.prerank.config import TASKS, StudentConfig, TeacherConfig
from trainers.prerank.feature_choice import select_features
from trainers.scorers import data
from trainers.scorers.data import IS_ROW, QUERY, REQUEST, ROWS, TIME, USER
from trainers.scorers.rows import EVAL, TRAIN, NoRowsError, RowSource

MONDAY_MS = 1_704_067_200_000  # Monday, 1 January 2024, 00:00 UTC
DAY_MS = 86_400_000
FEATURES = (
    EncodedFeature("user", "user", 100, f.Role.QUERY, "user", is_list=False),
    EncodedFeature("history", "item", 100, f.Role.QUERY, "history", is_list=True),
    EncodedFeature("item", "item", 100, f.Role.CANDIDATE, "item", is_list=False),
    EncodedFeature("tokens", "tokens", 100, f.Role.CANDIDATE, "text", is_list=True),
    EncodedFeature("count", "count", 0, f.Role.PRIVILEGED, "interactions", is_list=False),
)
INTEGERS = ("user", "item", REQUEST_KEY, USER_KEY, TIMESTAMP_KEY, f.CLICKED, f.CONVERTED)
SPEC = {
    **{name: tf.io.FixedLenFeature([], tf.int64) for name in INTEGERS},
    **{name: tf.io.RaggedFeature(tf.int64) for name in ("history", "tokens")},
    "count": tf.io.FixedLenFeature([], tf.float32),
}
STUDENT = StudentConfig(tasks=TASKS)
TEACHER = TeacherConfig(tasks=TASKS)
# Reading few features is quick.
FEW = StudentConfig(tasks=TASKS, disabled_groups=("time", "history", "text", "profile", "context", "crosses"))


def _make_rows(sizes, seed=0):
    """Rows of requests of these sizes side by side; `count` numbers them, `user` is the request's."""
    rng = np.random.default_rng(seed)
    rows = []
    for request, size in enumerate(sizes):
        user = int(rng.integers(1, 50))
        history = rng.integers(0, 9, rng.integers(0, 3)).tolist()
        for _ in range(size):
            row = {"user": user, "history": history, REQUEST_KEY: request * 7, USER_KEY: user * 11}
            row |= {TIMESTAMP_KEY: MONDAY_MS + request, "item": int(rng.integers(1, 90))}
            row |= {"tokens": rng.integers(1, 9, rng.integers(0, 4)).tolist(), "count": float(len(rows))}
            clicked = int(rng.integers(0, 2))
            rows.append({**row, f.CLICKED: clicked, f.CONVERTED: clicked * int(rng.integers(0, 2))})
    return rows


def _write(path, rows):
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for row in rows:
            feature = {}
            for name, value in row.items():
                values = value if isinstance(value, list) else [value]
                is_float = isinstance(value, float)
                feature[name] = tf.train.Feature(
                    **{"float_list": tf.train.FloatList(value=values)}
                    if is_float
                    else {"int64_list": tf.train.Int64List(value=values)}
                )
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())
    return str(path)


def _pad(values, size):
    return [*values, *[PADDING] * (size - len(values))]


def _check(batches, rows):
    """All rows, in the files' order, each beside its own request's user."""
    found = 0
    for batch in batches:
        inputs = {name: np.asarray(x) for name, x in data.flatten(batch).items()}
        expected = rows[found : found + len(inputs["count"])]
        found += len(expected)
        for name in ("item", "count", f.CLICKED, f.CONVERTED):
            np.testing.assert_array_equal(inputs[name], [row[name] for row in expected])
        np.testing.assert_array_equal(inputs["tokens"], [_pad(row["tokens"], 8) for row in expected])
        request = inputs[REQUEST]
        assert request.dtype == np.int32
        np.testing.assert_array_equal(inputs["user"][request], [row["user"] for row in expected])
        np.testing.assert_array_equal(
            inputs["history"][request], [_pad(row["history"], f.HISTORY_SIZE) for row in expected]
        )
        np.testing.assert_array_equal(np.asarray(batch[USER])[request], [row[USER_KEY] for row in expected])
        np.testing.assert_array_equal(np.asarray(batch[TIME])[request], [r[TIMESTAMP_KEY] for r in expected])
    assert found == len(rows)


def _read(path, list_size, features=FEATURES):
    return list(data.make_requests([path], SPEC, features, list_size).as_numpy_iterator())


@pytest.mark.parametrize("sizes", [[1], [3], [1, 1, 1], [2, 1, 4, 3, 1], [4, 4]])
def test_requests_unfold_to_the_rows_that_were_folded(tmp_path, sizes):
    rows = _make_rows(sizes)
    (batch,) = _read(_write(tmp_path / "rows.gz", rows), 4)
    assert batch[IS_ROW].sum(axis=1).tolist() == sizes
    assert batch[ROWS]["item"].shape == (len(sizes), 4)
    assert batch[ROWS]["tokens"].shape == (len(sizes), 4, 8)
    _check([batch], rows)


def test_what_fills_a_request_is_no_row(tmp_path):
    (batch,) = _read(_write(tmp_path / "rows.gz", _make_rows([2, 4, 1])), 4)
    expected = [[True, True, False, False], [True] * 4, [True, False, False, False]]
    assert batch[IS_ROW].tolist() == expected
    for values in batch[ROWS].values():
        assert not values[~batch[IS_ROW]].any()
    assert data.flatten(batch)[REQUEST].numpy().tolist() == [0, 0, 1, 1, 1, 1, 2]


def test_a_request_longer_than_the_list_becomes_several(tmp_path):
    rows = _make_rows([3, 10, 4])
    (batch,) = _read(_write(tmp_path / "rows.gz", rows), 4)
    assert batch[IS_ROW].sum(axis=1).tolist() == [3, 4, 4, 2, 4]
    _check([batch], rows)


def test_a_request_that_a_read_cuts_becomes_two(tmp_path):
    """More rows than are read at once."""
    sizes = [5] * 1700
    rows = _make_rows(sizes)
    batches = _read(_write(tmp_path / "rows.gz", rows), 5)
    assert [batch[IS_ROW].sum() for batch in batches] == [8192, 308]
    assert (batches[0][IS_ROW].sum(axis=1)[-1], batches[1][IS_ROW].sum(axis=1)[0]) == (2, 3)
    _check(batches, rows)


def test_requests_of_one_key_that_are_no_neighbours_stay_apart(tmp_path):
    rows = _make_rows([2, 2])
    rows = [rows[0], rows[2], rows[1], rows[3]]
    (batch,) = _read(_write(tmp_path / "rows.gz", rows), 2)
    assert batch[IS_ROW].sum(axis=1).tolist() == [1, 1, 1, 1]
    _check([batch], rows)


def test_several_files_are_read_one_after_another(tmp_path):
    rows = _make_rows([2, 3, 1, 2])
    for name, part in (("a.gz", rows[:5]), ("b.gz", rows[5:])):
        _write(tmp_path / name, part)
    batches = _read(str(tmp_path / "*.gz"), 3)
    _check(batches, rows)


def test_features_that_are_not_named_are_left_out_and_labels_stay(tmp_path):
    (batch,) = _read(_write(tmp_path / "rows.gz", _make_rows([2, 1])), 2)
    scored = {**batch, ROWS: {**batch[ROWS], data.TEACHER_LOGITS: 1, data.TEACHER_HIDDEN: 2}}
    kept = data.keep_features(scored, ["user", "item"])
    assert set(kept[QUERY]) == {"user"}
    labels = {f.CLICKED, f.CONVERTED, data.TEACHER_LOGITS, data.TEACHER_HIDDEN}
    assert set(kept[ROWS]) == {"item", *labels}
    assert kept.keys() == batch.keys()
    np.testing.assert_array_equal(kept[IS_ROW], batch[IS_ROW])


def test_times_select_whole_requests(tmp_path):
    rows = _make_rows([2, 1, 3, 2])
    (batch,) = _read(_write(tmp_path / "rows.gz", rows), 3)
    selected = data.select_time(batch, MONDAY_MS + 1, MONDAY_MS + 3)
    _check([selected], rows[2:6])


def test_batches_hold_every_request_once_and_others_every_epoch(tmp_path):
    sizes = [1 + number % 4 for number in range(50)]
    path = _write(tmp_path / "rows.gz", _make_rows(sizes))

    def read_epochs(seed, cache):
        requests = data.make_requests([path], SPEC, FEATURES, 4)
        batches = data.make_training_batches(requests, 8, str(tmp_path / cache), seed)
        return [
            [frozenset(data.flatten(batch)["count"].numpy()) for batch in batches.as_numpy_iterator()]
            for _ in range(3)
        ]

    epochs = read_epochs(1, "a")
    for epoch in epochs:
        assert len(epoch) == 7, "six batches of 8 requests and one of 2"
        assert sorted(number for batch in epoch for number in batch) == list(range(sum(sizes)))
    assert not set(epochs[0]) & set(epochs[1]), "frozen batches: shuffled before the cache"
    assert not set(epochs[1]) & set(epochs[2])
    assert read_epochs(1, "b") == epochs != read_epochs(2, "c")


@pytest.fixture(scope="module")
def days(marketplace, random_rows):
    """Four days of 3, 30, 10 and 7 rows in requests of up to 3; the day of each, and the files' patterns."""
    counts = (3, 30, 10, 7)
    day = np.repeat(np.arange(4), counts)
    rows = [
        {
            **row,
            "user_id": f"u{n // 3 % 8}",
            "timestamp": MONDAY_MS + int(day[n]) * DAY_MS + n // 3,
            "request_id": f"{day[n]}:{n // 3}",
        }
        for n, row in enumerate(random_rows("marketplace", sum(counts), seed=9))
    ]
    rng = np.random.default_rng(3)
    for row in rows:
        row["converted"] = int(row["clicked"] and rng.random() < 0.5)
    patterns = {TRAIN: [marketplace.write(rows, "days")], EVAL: [marketplace.write(rows[:9], "days_eval")]}
    return rows, patterns


KEYS = ("user_id_index", "item_id_index", "brand_index", "price_zscore", f.CLICKED, f.CONVERTED)


def _read_days(source, *configs, **limits):
    """What scorers of these configurations see."""
    return source.read(*(select_features(source.features, config) for config in configs), **limits)


def _summarize(batches):
    """What tells the rows apart, in no order."""
    found = []
    for batch in batches:
        inputs = data.flatten(batch)
        columns = {**inputs, "user_id_index": tf.gather(inputs["user_id_index"], inputs[REQUEST])}
        found += zip(*(columns[name].numpy().tolist() for name in KEYS), strict=True)
    return sorted(found)


def _expect(marketplace, rows):
    encoded = marketplace.encode(rows)
    return sorted(zip(*(encoded[name].numpy().tolist() for name in KEYS), strict=True))


@pytest.mark.parametrize(("share", "day"), [(0.01, 1), (0.3, 1), (0.4, 2), (0.7, 2), (0.8, 3), (0.99, 3)])
def test_the_cut_is_the_midnight_nearest_to_the_share(days, marketplace, share, day):
    """Of 50 rows .06, .66 and .86 lie before the second, third and fourth day."""
    source = RowSource(days[1], marketplace.transform)
    assert source.find_cut(share) == MONDAY_MS + day * DAY_MS


def test_days_are_read_from_one_midnight_to_another(days, marketplace):
    rows, patterns = days
    source = RowSource(patterns, marketplace.transform)
    cut = source.find_cut(0.66)
    for training, part in (
        (_read_days(source, FEW, until_ms=cut), rows[:33]),
        (_read_days(source, FEW, since_ms=cut), rows[33:]),
    ):
        clicked = [row for row in part if row["clicked"]]
        rates = [len(clicked) / len(part), np.mean([row["converted"] for row in clicked])]
        np.testing.assert_allclose(training.positive_rates, rates)
        batches = list(training.train)
        requests = sum(len(batch[USER]) for batch in batches)
        assert training.num_requests == requests == len({row["request_id"] for row in part})
        assert training.num_rows == len(part)
        assert _summarize(batches) == _expect(marketplace, part)
        assert _summarize(training.evaluation) == _expect(marketplace, rows[:9])
    assert source.count_rows(until_ms=cut) == 33 and source.count_rows(since_ms=cut) == 17


def test_each_reads_what_it_sees(days, marketplace):
    source = RowSource(days[1], marketplace.transform)
    student, teacher = _read_days(source, STUDENT), _read_days(source, TEACHER)
    assert {x.role for x in student.features} == {f.Role.QUERY, f.Role.CANDIDATE}
    assert {x.role for x in teacher.features} == {*f.Role} - {f.Role.KEY, f.Role.LABEL}
    few = TeacherConfig(form="pfd", disabled_groups=FEW.disabled_groups)
    training = _read_days(source, dataclasses.replace(FEW, disabled_groups=FEW.disabled_groups[1:]), few)
    (batch,) = training.train
    read = {*batch[QUERY], *batch[ROWS]} - {f.CLICKED, f.CONVERTED}
    assert read == {x.name for x in training.features}
    groups = {x.group for x in training.features}
    assert groups == {"user_id", "item_id", "attributes", "time", "interactions"}, (
        "the one's, and the other's"
    )


def test_kept_rows_are_the_rows_for_the_next_who_reads_them(days, marketplace, tmp_path):
    """Of other days, with other features."""
    rows, patterns = days
    kept = RowSource(patterns, marketplace.transform, str(tmp_path))
    cut = kept.find_cut(0.66)
    first = _read_days(kept, FEW, since_ms=cut)
    assert _summarize(first.train) == _expect(marketplace, rows[33:])
    assert _summarize(first.evaluation) == _expect(marketplace, rows[:9])
    for split in (TRAIN, EVAL):
        assert list(tmp_path.glob(f"{split}*"))
    teacher = dataclasses.replace(TEACHER, disabled_groups=("time", "history", "text"))
    second = _read_days(kept, teacher, until_ms=cut)
    (batch,) = second.train
    assert _summarize([batch]) == _expect(marketplace, rows[:33])
    assert {*batch[QUERY], *batch[ROWS]} - {f.CLICKED, f.CONVERTED} == {x.name for x in second.features}
    encoded = marketplace.encode(rows[:33])["user_brand_clicks_log_zscore"]
    np.testing.assert_array_equal(data.flatten(batch)["user_brand_clicks_log_zscore"], encoded)


@pytest.mark.parametrize("clicked", [0, 1])
def test_rows_of_one_class_are_refused(days, marketplace, clicked):
    rows = [{**row, "clicked": clicked} for row in days[0]]
    source = RowSource({**days[1], TRAIN: [marketplace.write(rows, f"all_{clicked}")]}, marketplace.transform)
    with pytest.raises(
        NoRowsError, match=rf"of 50 training rows {50 * clicked} are clicked.*negatives\.per_"
    ):
        _read_days(source, FEW)


def test_one_day_cannot_be_cut_and_no_row_is_refused(days, marketplace, tmp_path):
    rows, patterns = days
    one = {**patterns, TRAIN: [marketplace.write(rows[:3], "one_day")]}
    with pytest.raises(NoRowsError, match="covers one day.*longer event log, or smaller eval"):
        RowSource(one, marketplace.transform).find_cut(0.5)
    empty = {**patterns, TRAIN: [_write(tmp_path / "empty.gz", [])]}
    with pytest.raises(NoRowsError, match=r"no transformed row in .*empty\.gz"):
        RowSource(empty, marketplace.transform)
    source = RowSource(patterns, marketplace.transform)
    with pytest.raises(NoRowsError, match="no training row"):
        _read_days(source, STUDENT, since_ms=MONDAY_MS + 4 * DAY_MS)

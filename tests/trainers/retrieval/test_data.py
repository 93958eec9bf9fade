"""From transformed examples to batches."""

import numpy as np
import pytest

from schemas import features as f
from trainers.layers.feature_embedding import PADDING
from trainers.retrieval import data


@pytest.fixture(scope="module")
def written(marketplace, random_rows):
    """Rows of known content in a file of their own, and the file's pattern."""
    rows = random_rows("marketplace", count=100, seed=7)
    return rows, marketplace.write(rows, "batches")


def _rows(marketplace, pattern):
    return data.make_rows([pattern], marketplace.transform.transformed_feature_spec(), marketplace.features)


def test_positives_are_the_clicked_rows(marketplace, written):
    rows, pattern = written
    expected = marketplace.encode([row for row in rows if row["clicked"]])
    (batch,) = data.select_positives(_rows(marketplace, pattern)).as_numpy_iterator()
    assert f.CLICKED not in batch
    for name in ("item_id_index", "user_id_index"):
        np.testing.assert_array_equal(batch[name], expected[name])
    assert len(batch["item_id_index"]) == 75


def test_histories_keep_their_newest_events(marketplace):
    items = [f"i{n % 12}" for n in range(f.HISTORY_SIZE + 3)]
    feature = next(x for x in marketplace.features if x.name == "history_item_id_index")
    encoded = marketplace.encode([{"history_item_id": items}, {"history_item_id": ["i3"]}, {}])
    dense = data.to_dense(encoded[feature.name], feature).numpy()
    index = marketplace.encode([{"item_id": item} for item in items])["item_id_index"].numpy()
    np.testing.assert_array_equal(dense[0], index[3:])
    assert dense[1].tolist() == [index[3]] + [PADDING] * (f.HISTORY_SIZE - 1)
    assert set(dense[2]) == {PADDING}


def test_repeats_are_left_out_and_unknown_items_stay(marketplace):
    rows = [
        {"item_id": "i1", "history_item_id": ["i2", "i1"], "clicked": 1},
        {"item_id": "i1", "history_item_id": ["i2"], "clicked": 1},
        {"item_id": "i2", "history_item_id": [], "clicked": 1},
        {"item_id": "never seen", "history_item_id": ["nor this"], "clicked": 1},
    ]
    positives = data.select_positives(_rows(marketplace, marketplace.write(rows, "repeats")))
    (kept,) = data.leave_out_repeats(positives).as_numpy_iterator()
    expected = marketplace.encode(rows)["item_id_index"].numpy()[1:]
    assert kept["item_id_index"].tolist() == expected.tolist()


def test_batches_hold_every_row_once_and_others_every_epoch(marketplace, written, tmp_path):
    _, pattern = written
    positives = data.select_positives(_rows(marketplace, pattern))
    batches = data.make_training_batches(positives, 10, str(tmp_path / "cache"), seed=1)
    epochs = [[_row_keys(batch) for batch in batches.as_numpy_iterator()] for _ in range(3)]
    everything = sorted(key for batch in positives.as_numpy_iterator() for key in _row_keys(batch))
    for epoch in epochs:
        assert [len(batch) for batch in epoch] == [10] * 7 + [5]
        assert sorted(key for batch in epoch for key in batch) == everything
    members = [{frozenset(batch) for batch in epoch} for epoch in epochs]
    assert not members[0] & members[1], "frozen batches: shuffled before the cache"
    assert not members[1] & members[2]


def test_the_seed_decides_the_batches(marketplace, written, tmp_path):
    _, pattern = written
    positives = data.select_positives(_rows(marketplace, pattern))

    def first(seed, run):
        batches = data.make_training_batches(positives, 10, str(tmp_path / f"cache{run}"), seed)
        return [_row_keys(batch) for batch in batches.as_numpy_iterator()]

    assert first(1, "a") == first(1, "b") != first(2, "c")


def _row_keys(batch):
    """Something that tells the rows apart."""
    columns = ("user_id_index", "item_id_index", "timestamp_zscore", "price_zscore")
    return [tuple(float(batch[name][i]) for name in columns) for i in range(len(batch["item_id_index"]))]


def test_items_are_collected_from_all_rows_and_shares_from_the_clicked(marketplace):
    rows = [
        {"item_id": "i1", "title": "word1 word2", "price": 5.0, "clicked": 1},
        {"item_id": "i1", "title": "word1 word2", "price": 5.0, "clicked": 1},
        {"item_id": "i2", "title": "word3", "price": 7.0, "clicked": 1},
        {"item_id": "i3", "title": "word4", "price": 9.0, "clicked": 0},
        {"item_id": "nothing", "clicked": 1},
    ]
    pattern = marketplace.write(rows, "items")
    items = data.collect_items(_rows(marketplace, pattern), marketplace.features)
    encoded = marketplace.encode(rows)
    index = encoded["item_id_index"].numpy()
    assert items.num_positives == 4
    np.testing.assert_allclose(items.positive_share[index], [0.5, 0.5, 0.25, 0.0, 0.25])
    assert items.positive_share.sum() == pytest.approx(1.0)
    for row in range(4):
        assert items.catalogue["item_id_index"][index[row] - 1] == index[row]
        assert items.catalogue["price_zscore"][index[row] - 1] == encoded["price_zscore"][row]
    # One user clicked three distinct items, i1 twice; i3 was only shown.
    assert items.clicks.toarray()[:, index].tolist() == [[1.0, 1.0, 1.0, 0.0, 1.0]]
    tokens = items.catalogue["title_tokens"][index[0] - 1]
    assert tokens[tokens != PADDING].tolist() == encoded["title_tokens"][0].numpy().tolist()


def test_no_click_at_all_is_refused(marketplace):
    pattern = marketplace.write([{"clicked": 0}], "unclicked")
    with pytest.raises(ValueError, match="no clicked row"):
        data.collect_items(_rows(marketplace, pattern), marketplace.features)

"""What counts as a pair of items, and what is learnt from pairs."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from schemas import features as f
from trainers.layers.feature_embedding import PADDING
from trainers.preprocessing import USER_KEY, EncodedFeature
from trainers.retrieval import data, export
from trainers.retrieval import item_to_item as pairs
from trainers.retrieval.config import ItemToItemConfig
from trainers.retrieval.model import HISTORY_ITEM_INDEX, ITEM_INDEX, USER_INDEX, RetrievalModel
from trainers.retrieval.runner import run_fn

NOW_MS = 1_704_067_200_000
GAP = 2048


def _row(*history, item="i1", clicked=1):
    """A row whose history is pairs of (item, seconds before the row), oldest first."""
    return {
        "item_id": item,
        "timestamp": NOW_MS,
        "clicked": clicked,
        "history_item_id": [name for name, _ in history],
        "history_category": ["c1" if name == "i2" else "c2" for name, _ in history],
        "history_timestamp": [NOW_MS - 1000 * age for _, age in history],
    }


CASES = {
    "in the session": (_row(("i2", 60)), True),
    "at the same moment": (_row(("i2", 0)), True),
    "just in it": (_row(("i2", 2040)), True),
    "just outside": (_row(("i2", 2060)), False),
    "long ago": (_row(("i2", 10**7)), False),
    "the newest counts, in": (_row(("i3", 10**6), ("i2", 60)), True),
    "the newest counts, out": (_row(("i2", 3000), ("i3", 2900)), False),
    "no history": (_row(), False),
    "not clicked": (_row(("i2", 60), clicked=0), False),
    "the same item": (_row(("i1", 60)), False),
    "both unknown": (_row(("strange", 60), item="stranger"), True),
}


@pytest.fixture(scope="module")
def marked(marketplace):
    pattern = marketplace.write([row for row, _ in CASES.values()], "cases")
    features = marketplace.features
    rows = data.make_rows(
        [pattern], marketplace.transform.transformed_feature_spec(), pairs.row_features(features)
    )
    (batch,) = pairs.mark_pairs(rows, features, GAP).as_numpy_iterator()
    return batch


@pytest.mark.parametrize("case", CASES)
def test_a_pair_is_of_one_session(marked, case):
    assert bool(marked[f.CLICKED][list(CASES).index(case)]) == CASES[case][1]


def test_the_anchor_is_the_newest_event(marketplace, marked):
    newest = {"item_id": "i2", "category": "c1"}, {"item_id": "i3", "category": "c2"}, {"item_id": "strange"}
    encoded = marketplace.encode(newest)
    cases = ["the newest counts, in", "the newest counts, out", "both unknown"]
    place = [list(CASES).index(case) for case in cases]
    for name in ("item_id_index", "category_index"):
        expected = encoded[name].numpy()
        # An unknown item's category may be known.
        count = 3 if name == "item_id_index" else 2
        assert marked[f"anchor_{name}"][place][:count].tolist() == expected[:count].tolist()
    empty = list(CASES).index("no history")
    names = [f"anchor_{x}_index" for x in ("item_id", "category", "brand", "shop_id")]
    assert [int(marked[name][empty]) for name in names] == [0, 0, 0, 0]


def test_rows_that_are_no_pairs_still_show_their_items(marketplace, marked):
    """The catalogue is all items; the shares, which correct the loss, are of the pairs alone."""
    rows = tf.data.Dataset.from_tensors(marked)
    items = data.collect_items(rows, pairs.anchor_features(marketplace.features))
    assert items.num_positives == sum(expected for _, expected in CASES.values())
    item = int(marketplace.encode([{"item_id": "i1"}])[ITEM_INDEX][0])
    assert items.positive_share[[0, item]].tolist() == [1 / 5, 4 / 5]
    assert items.catalogue[ITEM_INDEX][item - 1] == item


NUM_ITEMS = 24
FEATURES = (
    EncodedFeature(USER_INDEX, USER_INDEX, 2, f.Role.QUERY, "user_id", False),
    EncodedFeature(HISTORY_ITEM_INDEX, ITEM_INDEX, NUM_ITEMS + 1, f.Role.QUERY, "history", True),
    EncodedFeature(pairs.HISTORY_AGE, pairs.HISTORY_AGE, 33, f.Role.QUERY, "history", True),
    EncodedFeature(ITEM_INDEX, ITEM_INDEX, NUM_ITEMS + 1, f.Role.CANDIDATE, "item_id", False),
)
CATALOGUE = {ITEM_INDEX: np.arange(1, NUM_ITEMS + 1)}
CONFIG = ItemToItemConfig(
    embedding_dim=16,
    output_dim=16,
    num_uniform_negatives=32,
    batch_size=64,
    dropout=0.0,
    query_dropout=0.1,
    weight_decay=0.0,
)


def _learn_successors(gap):
    """Which item each item is answered with. B follows A in a session, and C, four times as often, later."""
    rng = np.random.default_rng(0)
    soon, later = (rng.permutation(NUM_ITEMS) for _ in range(2))
    anchors = rng.integers(NUM_ITEMS, size=5000)
    is_soon = rng.random(5000) < 0.2
    rows = {
        USER_INDEX: np.zeros(5000, np.int64),
        USER_KEY: np.zeros(5000, np.int64),
        HISTORY_ITEM_INDEX: np.stack([anchors + 1, np.full(5000, PADDING)], axis=1),
        pairs.HISTORY_AGE: np.stack([np.where(is_soon, 6, 20), np.full(5000, PADDING)], axis=1),
        ITEM_INDEX: np.where(is_soon, soon[anchors], later[anchors]) + 1,
        f.CLICKED: np.ones(5000, np.int64),
    }
    batches = pairs.mark_pairs(tf.data.Dataset.from_tensors(rows), FEATURES, gap)
    items = data.collect_items(batches, pairs.anchor_features(FEATURES))
    tf.keras.utils.set_random_seed(1)
    model = RetrievalModel(pairs.anchor_features(FEATURES), CATALOGUE, items.positive_share, CONFIG)
    model.compile(optimizer=tf.keras.optimizers.AdamW(0.02, weight_decay=0.0))
    positives = data.select_positives(batches).unbatch().shuffle(10_000, seed=1).repeat()
    model.fit(positives.batch(CONFIG.batch_size), steps_per_epoch=150, epochs=1, verbose=0)

    queries = model.query_tower({pairs.ANCHOR_ITEM_INDEX: tf.constant(CATALOGUE[ITEM_INDEX])})
    scores = tf.matmul(queries, model.candidate_tower(CATALOGUE), transpose_b=True).numpy()
    np.fill_diagonal(scores, -np.inf)
    differ = (soon != later) & (soon != np.arange(NUM_ITEMS)) & (later != np.arange(NUM_ITEMS))
    best = scores.argmax(axis=1)
    return np.mean(best[differ] == soon[differ]), np.mean(best[differ] == later[differ])


def test_an_item_is_answered_with_what_follows_it_in_a_session():
    assert _learn_successors(GAP) == (1.0, 0.0)


def test_without_the_session_it_would_be_what_follows_most_often():
    """Else the test above could not fail."""
    assert _learn_successors(1 << 31) == (0.0, 1.0)


class _Arguments:
    """What TFX hands to `run_fn`."""

    def __init__(self, prepared, pattern, folder, **changes):
        self.custom_config = {
            "item_to_item_config": dataclasses.asdict(dataclasses.replace(CONFIG, max_epochs=1, **changes))
        }
        self.transform_output = f"{prepared.folder}/graph"
        self.train_files = self.eval_files = [pattern]
        self.model_run_dir = str(folder / "log")
        self.serving_model_dir = str(folder / "model")


def test_the_trainer_exports_anchors_and_candidates(marketplace, tmp_path):
    arguments = _Arguments(marketplace, marketplace.train_pattern, tmp_path, session_gap_seconds=1 << 20)
    run_fn(arguments)
    signatures = tf.saved_model.load(arguments.serving_model_dir).signatures
    assert set(signatures) == {export.ANCHOR_SIGNATURE, export.ITEM_SIGNATURE}


def test_a_source_without_sessions_gets_no_model(marketplace, tmp_path):
    pattern = marketplace.write([row for row, is_pair in CASES.values() if not is_pair], "no_pairs")
    arguments = _Arguments(marketplace, pattern, tmp_path, session_gap_seconds=GAP)
    run_fn(arguments)
    assert tf.io.gfile.isdir(arguments.serving_model_dir)
    assert not tf.saved_model.contains_saved_model(arguments.serving_model_dir)

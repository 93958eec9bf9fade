"""What a ranker is given that it was not made for: long histories, strangers, nothing at all."""

import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf

from pipelines.config import ConfigError, RunConfig
from pipelines.config_checks import check_config
from schemas import features as f
from trainers.batches import make_dense_spec
from trainers.layers.feature_embedding import PADDING
from trainers.losses.distillation_config import DistillationConfig, DistillationLossConfig
from trainers.ranking.config import RankerConfig
from trainers.ranking.export import export_ranker
from trainers.ranking.features import select_features
from trainers.ranking.model import Ranker
from trainers.ranking.train import build_training, train_ranker
from trainers.scorers.data import QUERY, REQUEST, TEACHER_HIDDEN, TEACHER_LOGITS, flatten
from trainers.scorers.selection import METRIC
from trainers.scorers.teaching import FrozenTeacher

SHAPE = {"embedding_dim": 6, "units": 5, "attention_dims": (7,), "head_dims": (8,), "product_dim": 3}
CONFIG = RankerConfig(**SHAPE, batch_size=64, max_epochs=1, num_negatives=2)
# Crosses are hashed, so that no two strangers are alike to them.
SEEN = dataclasses.replace(CONFIG, disabled_groups=("time", "text", "crosses"))
INTERESTS = ("din", "gru", "augru")


@pytest.fixture(scope="module")
def score(marketplace, tmp_path_factory):
    """Rows of impressions -> logits, by the SavedModel of a ranker of random weights."""
    ranker = Ranker(marketplace.features, SEEN, [0.5])
    specs = {x.name: make_dense_spec(x) for x in ranker.features.everything}
    nothing = {name: tf.zeros([1, *spec.shape[1:]], spec.dtype) for name, spec in specs.items()}
    ranker({**nothing, REQUEST: tf.zeros([1], tf.int32)})  # makes the variables
    rng = np.random.default_rng(3)
    for variable in ranker.variables:
        low = 0.5 if "variance" in variable.name else -0.5
        variable.assign(rng.uniform(low, 0.5, variable.shape))
    path = str(tmp_path_factory.mktemp("served"))
    export_ranker(ranker, marketplace.transform, path)
    function = tf.saved_model.load(path).signatures["score_examples"]

    def score(rows):
        probability = function(examples=marketplace.serialize(rows))[f.CLICKED].numpy()
        return np.log(probability / (1 - probability))

    return score


@pytest.fixture
def row(random_rows):
    """A row whose features are all there."""
    rows = random_rows("marketplace", 40, seed=11)
    return max(rows, key=lambda x: (len(x), len(x["history_item_id"])))


def make_history(row, size):
    """Clicks of known items, an hour apart, the newest an hour ago."""
    rng = np.random.default_rng(size)
    columns = {
        "history_item_id": [f"i{x}" for x in rng.integers(12, size=size)],
        "history_category": [f"c{x}" for x in rng.integers(3, size=size)],
        "history_brand": [f"brand{x}" for x in rng.integers(4, size=size)],
        "history_shop_id": [f"shop_id{x}" for x in rng.integers(4, size=size)],
    }
    return {**columns, f.HISTORY_TIMESTAMP: [row["timestamp"] - 3_600_000 * n for n in range(size, 0, -1)]}


def take(history, part):
    return {name: values[part] for name, values in history.items()}


def test_of_a_long_history_the_newest_events_count(score, row):
    history = make_history(row, 130)
    newest, oldest = take(history, slice(-f.HISTORY_SIZE, None)), take(history, slice(f.HISTORY_SIZE))
    whole, new, old = (score([{**row, **x}])[0] for x in (history, newest, oldest))
    assert whole == new and abs(whole - old) > 1e-4


def test_a_long_history_changes_no_other_row(score, row):
    short = {**row, **make_history(row, 3)}
    alone = score([short])
    beside = score([{**row, **make_history(row, 130)}, short])
    np.testing.assert_allclose(beside[1:], alone, rtol=0, atol=1e-6)


def test_what_no_vocabulary_knows_is_one_stranger(score, row):
    """Whatever its id: of the user, of the item, in the history."""
    history = make_history(row, 3)
    names = ("user_id", "gender", "city", "device", "item_id", "category", "brand", "shop_id", "content_type")

    def rename(name):
        strange = {key: [name] * 3 for key in history if key != f.HISTORY_TIMESTAMP}
        return {**row, **history, **strange, **dict.fromkeys(names, name)}

    known, first, second = score([{**row, **history}, rename("nobody"), rename("日本")])
    assert np.isfinite(first) and first == second and abs(first - known) > 1e-4


@pytest.mark.parametrize("lost", ["history_item_id", "history_category", f.HISTORY_TIMESTAMP])
def test_a_list_that_a_history_lacks_is_no_failure(score, row, lost):
    history = make_history(row, 3)
    with_it, without = score([{**row, **history}, {**row, **history, lost: []}])
    assert np.isfinite(without) and with_it != without


def empty(training):
    """The same requests of users who have clicked nothing."""

    def forget(batch):
        query = {
            name: tf.fill(tf.shape(x), tf.cast(PADDING, x.dtype)) if x.shape.rank == 2 else x
            for name, x in batch[QUERY].items()
        }
        return {**batch, QUERY: query}

    return dataclasses.replace(
        training, train=training.train.map(forget), evaluation=training.evaluation.map(forget)
    )


@pytest.mark.slow
@pytest.mark.parametrize("interest", INTERESTS)
def test_without_any_history_a_ranker_is_trained_and_scores(make_training, interest):
    config = dataclasses.replace(CONFIG, interest=interest)
    training = empty(make_training(300, seed=1))
    result = train_ranker(config, training)
    assert np.isfinite(result.history["loss"]).all() and np.isfinite(result.history[METRIC]).all()
    for variable in result.scorer.variables:
        assert np.isfinite(variable.numpy()).all(), variable.name
    inputs = flatten(next(iter(training.evaluation)))
    for length in (1, f.HISTORY_SIZE):
        cut = {name: x[:, :length] if x.shape.rank == 2 else x for name, x in inputs.items()}
        assert np.isfinite(result.scorer(cut).logits).all()


def test_the_shares_of_two_tasks_are_cut_to_the_rankers_one(make_training):
    """They are pre-ranking's, whose student may learn conversions too."""
    training = make_training(40, seed=1)
    weights = {"two": (0.25, 0.5), "one": (0.25,)}
    teacher = FrozenTeacher(None, ("clicked", "converted"), {x.name for x in training.features}, 0)
    inputs = flatten(next(iter(training.train)))
    taught = {
        TEACHER_LOGITS: tf.random.normal([len(inputs[f.CLICKED]), 2]),
        TEACHER_HIDDEN: tf.zeros([len(inputs[f.CLICKED]), 4]),
    }
    losses = {}
    for name, shares in weights.items():
        distillation = DistillationConfig(
            losses=(DistillationLossConfig("multi_target", soft_weights=shares),)
        )
        tf.keras.utils.set_random_seed(5)
        plain = dataclasses.replace(
            CONFIG, **dict.fromkeys(("dropout", "id_dropout", "query_dropout", "event_dropout"), 0.0)
        )
        model = build_training(plain, training, teacher, distillation)
        model.compile(tf.keras.optimizers.Adam())
        losses[name] = float(model.compute_batch_loss({**inputs, **taught}))
    assert np.isfinite(losses["one"]) and losses["two"] == pytest.approx(losses["one"], rel=1e-6)


GROUPS = ("user_id", "history", "profile", "context", "time", "crosses", "item_id", "attributes", "text")


def test_what_features_refuse_is_refused_before_a_run(marketplace):
    """A run says at its start what the node would say after the nodes before it have trained for minutes."""
    few = [x for n in (0, 1) for x in itertools.combinations(GROUPS, n)]
    most = [x for n in (1, 2) for x in itertools.combinations(GROUPS, len(GROUPS) - n)]
    refused = set()
    for disabled, interest in itertools.product([*few, *most], ("none", "din", "augru")):
        config = RankerConfig(interest=interest, disabled_groups=disabled, booster_units=9)
        at_once = find_refusal(lambda: check_config("marketplace", RunConfig(ranking=config)))  # noqa: B023
        by_the_node = find_refusal(lambda: select_features(marketplace.features, config))  # noqa: B023
        assert (at_once is None) == (by_the_node is None), (config, at_once, by_the_node)
        assert at_once is None or at_once.startswith("ranking."), at_once
        refused.add(at_once is not None)
    assert refused == {False, True}


def find_refusal(function):
    try:
        function()
    except (ConfigError, ValueError) as error:
        return str(error)
    return None

"""The whole training on real files, what it keeps, and a warm start from what it exported."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from schemas import features as f
from trainers.layers.feature_embedding import table_dim
from trainers.retrieval import data, export, warm_start
from trainers.retrieval.config import RetrievalConfig
from trainers.retrieval.model import ITEM_INDEX, RetrievalModel
from trainers.retrieval.selection import METRIC
from trainers.retrieval.train import train_and_evaluate
from trainers.weight_average import DivergenceError

CONFIG = RetrievalConfig(
    embedding_dim=8, output_dim=8, num_uniform_negatives=16, batch_size=16, max_epochs=3, patience_epochs=3
)
ORIGIN = {"training_key": "key", "warm_start_dir": ""}

pytestmark = pytest.mark.slow


def _train(prepared, folder, config=CONFIG, **kwargs):
    return train_and_evaluate(
        config,
        [prepared.train_pattern],
        [prepared.train_pattern],
        prepared.transform,
        log_dir=str(folder / "log"),
        **kwargs,
    )


@pytest.fixture(scope="module")
def trained(marketplace, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    result = _train(marketplace, folder)
    path = str(folder / "model")
    export.export_towers(result.model, marketplace.transform, path, ORIGIN)
    return result, path


def test_the_best_epoch_is_kept(trained):
    result, _ = trained
    recall = result.history[METRIC]
    assert len(recall) == len(result.history["loss"]) == 3
    assert result.best_epoch == int(np.argmax(recall))


def test_a_step_is_traced_once_over_all_epochs(trained):
    result, _ = trained
    assert result.model.train_function.experimental_get_tracing_count() == 1


def test_an_export_stands_without_the_transform_graph_it_was_made_with(
    trained, marketplace, random_rows, tmp_path
):
    result, path = trained
    shutil.copytree(marketplace.folder / "graph", tmp_path / "graph")
    transform = tft.TFTransformOutput(str(tmp_path / "graph"))
    export.export_towers(result.model, transform, str(tmp_path / "model"), ORIGIN)
    shutil.rmtree(tmp_path / "graph")
    examples = marketplace.serialize(random_rows("marketplace", 20))
    found, expected = (
        tf.saved_model.load(str(x)).signatures[export.QUERY_SIGNATURE](examples=examples)[export.VECTORS]
        for x in (tmp_path / "model", path)
    )
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_same_seed_gives_the_same_loss(trained, marketplace, tmp_path):
    result, _ = trained
    again = _train(marketplace, tmp_path)
    np.testing.assert_allclose(again.history["loss"], result.history["loss"], rtol=1e-4)


def test_a_training_that_diverges_says_so(marketplace, tmp_path):
    config = dataclasses.replace(CONFIG, learning_rate=1e30, max_epochs=1)
    with pytest.raises(DivergenceError, match="training diverged: in epoch 1 the loss is nan"):
        _train(marketplace, tmp_path, config)


class Stop(Exception):
    pass


def test_the_towers_read_the_query_s_and_the_candidate_s_columns_alone(marketplace, tmp_path, monkeypatch):
    read = []

    def make_rows(patterns, spec, features):
        read.extend(features)
        raise Stop

    monkeypatch.setattr(data, "make_rows", make_rows)
    with pytest.raises(Stop):
        _train(marketplace, tmp_path)
    assert {x.role for x in read} == {f.Role.QUERY, f.Role.CANDIDATE}
    assert len(read) < len(marketplace.features)


def test_what_a_warm_start_needs_lies_beside_the_model(trained):
    result, path = trained
    with open(os.path.join(path, export.EXTRA_DIR, export.ORIGIN_FILE), encoding="utf-8") as stream:
        assert json.load(stream) == ORIGIN
    weights = np.load(os.path.join(path, export.EXTRA_DIR, export.WEIGHTS_FILE))
    for variable in result.model.trainable_variables:
        np.testing.assert_array_equal(weights[variable.name], variable.numpy())


def test_a_warm_start_begins_where_the_earlier_training_ended(trained, marketplace, tmp_path):
    result, path = trained
    warm = _train(marketplace, tmp_path, warm_start_dir=path)
    assert warm.history["loss"][0] < result.history["loss"][0]


def test_rows_of_equal_tokens_move_and_others_stay(trained, prepare, random_rows):
    """The new vocabulary has the same tokens in another order, and new ones."""
    result, path = trained
    rows = [
        {**row, "item_id": f"i{int(row['item_id'][1:]) + 4}", "history_item_id": []}
        for row in random_rows("marketplace", seed=5)
    ]
    other = prepare("marketplace", rows)
    catalogue = {"item_id_index": np.array([1, 2])}
    model = RetrievalModel(other.features, catalogue, np.full(3, 1 / 3), CONFIG)
    inputs = {
        x.name: tf.zeros([1, 50] if x.is_list else [1], tf.int64 if x.size else tf.float32)
        for x in other.features
    }
    model.query_tower(inputs)
    model.candidate_tower(inputs)
    before = {v.name: v.numpy() for v in model.trainable_variables}
    assert warm_start.load_weights(model, path, other.transform) > 0

    (name,) = (v.name for v in model.trainable_variables if "item_id_index" in v.name)
    after = {v.name: v.numpy() for v in model.trainable_variables}
    earlier = {v.name: v.numpy() for v in result.model.trainable_variables}
    old = {token: i for i, token in enumerate(_tokens(path, "item_id"), start=1)}
    new = other.transform.vocabulary_by_name("item_id")
    moved = [token in old for token in new]
    assert any(moved) and not all(moved), "the test needs both"
    assert [old.get(token) for token in new] != list(range(1, len(new) + 1)), "and another order"
    for i, token in enumerate(new, start=1):
        expected = earlier[name][old[token]] if token in old else before[name][i]
        np.testing.assert_array_equal(after[name][i], expected)
    np.testing.assert_array_equal(after[name][0], earlier[name][0])
    (kernel,) = (n for n in after if n.endswith("candidate_top/linear/kernel:0"))
    np.testing.assert_array_equal(after[kernel], earlier[kernel])


def _tokens(path, vocabulary):
    with open(os.path.join(path, "assets", vocabulary), "rb") as stream:
        return stream.read().splitlines()


def test_a_warm_start_from_anything_else_is_refused(trained, marketplace, tmp_path):
    with pytest.raises(FileNotFoundError, match="warm start needs a model"):
        warm_start.load_weights(trained[0].model, str(tmp_path), marketplace.transform)


def test_a_small_catalogue_starts_from_as_many_factors_as_its_table_has_columns(
    prepare, random_rows, tmp_path
):
    rows = random_rows("marketplace", 120)
    rows = [{**row, "user_id": f"u{n % 37}", "item_id": f"i{n % 40}"} for n, row in enumerate(rows)]
    config = dataclasses.replace(CONFIG, embedding_dim=64, spectral_start=0.1, max_epochs=1)
    tables = _train(prepare("marketplace", rows), tmp_path, config).model.tables
    # There are more factors, up to one less than users or items, than columns.
    assert table_dim(tables.sizes[ITEM_INDEX], config.embedding_dim) == 18

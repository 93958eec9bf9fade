import numpy as np
import pytest
from scipy import sparse

from benchmarks.retrieval.item_models import MAX_ACTIVE_ITEMS, Ease, ItemKnn
from benchmarks.retrieval.score_rankers import ItemModelRanker


def test_ease_by_hand():
    # X'X + I = [[3, 1], [1, 2]], its inverse P = [[2, -1], [-1, 3]] / 5.
    weights = Ease(l2=1.0).fit(sparse.csr_matrix([[1.0, 1.0], [1.0, 0.0]]))
    assert weights == pytest.approx(np.array([[0, 1 / 3], [1 / 2, 0]]))


def test_ease_by_hand_with_fewer_users_than_items():
    # X'X + I = [[2, 1], [1, 2]], P = [[2, -1], [-1, 2]] / 3.
    weights = Ease(l2=1.0).fit(sparse.csr_matrix([[1.0, 1.0]]))
    assert weights == pytest.approx(np.array([[0, 1 / 2], [1 / 2, 0]]))


@pytest.mark.parametrize("shape", [(60, 20), (20, 60)])
def test_ease_minimises_what_it_says(shape):
    # ||X - XW||^2 + l2 ||W||^2 with a diagonal of zeros: off the diagonal the gradient vanishes.
    clicks = (np.random.default_rng(0).random(shape) < 0.3).astype(np.float32)
    weights = Ease(l2=5.0).fit(sparse.csr_matrix(clicks)).astype(np.float64)
    gradient = clicks.T @ (clicks @ weights - clicks) + 5.0 * weights
    off_diagonal = ~np.eye(shape[1], dtype=bool)
    assert np.abs(gradient[off_diagonal]).max() < 1e-4
    assert np.diag(weights).tolist() == [0] * shape[1]


# Users who clicked: a and b, a and b, a, b and c. Counts 3, 3, 1; together ab 2, bc 1.
CLICKS = sparse.csr_matrix([[1.0, 1, 0], [1, 1, 0], [1, 0, 0], [0, 1, 1]])


def test_knn_by_hand():
    weights = ItemKnn(neighbours=5, shrinkage=0.0).fit(CLICKS).toarray()
    assert weights == pytest.approx(np.array([[0, 2 / 3, 0], [2 / 3, 0, 1 / 3**0.5], [0, 1 / 3**0.5, 0]]))


def test_knn_shrinks_what_few_support():
    weights = ItemKnn(neighbours=5, shrinkage=1.0).fit(CLICKS).toarray()
    assert weights[0, 1] == pytest.approx(2 / (3 + 1))
    assert weights[1, 2] == pytest.approx(1 / (3**0.5 + 1))


def test_knn_keeps_the_nearest_of_each_item():
    weights = ItemKnn(neighbours=1, shrinkage=0.0).fit(CLICKS).toarray()
    # Column i holds item i's neighbours: b for a, a for b, b for c.
    assert (weights > 0).tolist() == [[False, True, False], [True, False, True], [False, False, False]]


def test_knn_in_blocks_equals_knn_at_once(monkeypatch):
    clicks = sparse.csr_matrix((np.random.default_rng(1).random((50, 23)) < 0.3).astype(np.float32))
    model = ItemKnn(neighbours=4, shrinkage=2.0)
    at_once = model.fit(clicks).toarray()
    monkeypatch.setattr("benchmarks.retrieval.item_models._BLOCK", 7)
    assert model.fit(clicks).toarray() == pytest.approx(at_once)


@pytest.mark.parametrize("model", [Ease(1.0), ItemKnn(1, 0.0)])
def test_too_many_items_are_refused(model):
    clicks = sparse.csr_matrix((1, MAX_ACTIVE_ITEMS + 1), dtype=np.float32)
    with pytest.raises(ValueError, match=r"30,001 items have a training click.*smaller catalogue"):
        model.fit(clicks)


@pytest.mark.parametrize("model", [Ease(1.0), ItemKnn(7, 0.0)])
def test_what_belongs_together_is_found(blocks, model):
    ranker = ItemModelRanker(model.fit(blocks.train_matrix), blocks.active, blocks.popularity_ranks)
    assert blocks.measure(ranker, "test")["ndcg_10"].tolist() == [1.0] * 24

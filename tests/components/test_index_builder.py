"""The ScaNN index against the exact one, and the package's answers against a plain sort."""

import numpy as np
import pytest
import tensorflow as tf

from components.index_builder.package import BruteForce, RetrievalPackage
from components.index_builder.scann_index import ScannIndex, compute_recall, tune
from trainers.retrieval import export

DIM = 8


class Towers(tf.Module):
    """Stands where the trainer's SavedModel does: an example is the text of its vector."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, export.EXAMPLES)])
    def query_vector(self, examples):
        return {export.VECTORS: tf.reshape(tf.io.decode_raw(examples, tf.float32), [-1, DIM])}

    @tf.function(input_signature=[tf.TensorSpec([None, DIM], tf.float32, "query")])
    def query_vector_raw(self, query):
        return {export.VECTORS: query}


def unit(rng, rows, dim=DIM):
    vectors = rng.normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module", params=["brute_force", "scann"])
def packaged(request, tmp_path_factory):
    """A saved and reloaded package of 300 items, and what went into it."""
    path = tmp_path_factory.mktemp("package")
    rng = np.random.default_rng(0)
    vectors = unit(rng, 300)
    ids = np.array([b"i%03d" % i for i in range(300)], object)
    (path / "item_ids.txt").write_bytes(b"\n".join(ids) + b"\n")
    towers = Towers()
    signatures = {
        export.QUERY_SIGNATURE: towers.query_vector,
        export.QUERY_RAW_SIGNATURE: towers.query_vector_raw,
    }
    tf.saved_model.save(towers, str(path / "towers"), signatures=signatures)
    loaded = tf.saved_model.load(str(path / "towers"))
    index = BruteForce(vectors) if request.param == "brute_force" else ScannIndex(vectors)
    RetrievalPackage(loaded, ids, vectors, index, 20, str(path / "item_ids.txt")).save(str(path / "saved"))
    return tf.saved_model.load(str(path / "saved")), ids, vectors


def ranked(vectors, ids, query, exclude=()):
    """The definition: all items by inner product, without the excluded."""
    order = np.argsort(-(vectors @ query), kind="stable")
    return [ids[i] for i in order if ids[i] not in set(exclude)]


@pytest.mark.parametrize("batch", [1, 5])
def test_answers_equal_a_full_sort(packaged, batch):
    model, ids, vectors = packaged
    queries = unit(np.random.default_rng(1), batch)
    answer = model.signatures["serving_default"](examples=tf.constant([q.tobytes() for q in queries]))
    for row, query in enumerate(queries):
        assert answer["item_id"][row].numpy().tolist() == ranked(vectors, ids, query)[:20]
        np.testing.assert_allclose(
            answer["scores"][row], np.sort(vectors @ query)[::-1][:20], rtol=0, atol=1e-5
        )


def test_exclusions_are_left_out_and_the_rest_moves_up(packaged):
    model, ids, vectors = packaged
    query = unit(np.random.default_rng(2), 1)[0]
    exclude = [*ranked(vectors, ids, query)[:7], b"no such item", b""]
    answer = model.signatures["recommend_examples"](
        examples=tf.constant([query.tobytes()]), exclude_item_id=tf.constant([exclude])
    )
    assert answer["item_id"][0].numpy().tolist() == ranked(vectors, ids, query, exclude)[:20]


def test_everything_excluded_gives_empty_places(packaged):
    model, ids, _ = packaged
    query = unit(np.random.default_rng(3), 1)[0]
    answer = model.signatures["recommend_examples"](
        examples=tf.constant([query.tobytes()]), exclude_item_id=tf.constant([ids[:295].tolist()])
    )
    found = answer["item_id"][0].numpy()
    assert set(found[:5]) == set(ids[295:]) and set(found[5:]) == {b""}
    assert (answer["scores"][0].numpy()[5:] == np.finfo(np.float32).min).all()


def test_the_raw_signature_answers_like_the_examples(packaged):
    model, ids, vectors = packaged
    queries = unit(np.random.default_rng(4), 3)
    answer = model.signatures["recommend"](
        query=tf.constant(queries), exclude_item_id=tf.constant([[""]] * 3)
    )
    for row, query in enumerate(queries):
        assert answer["item_id"][row].numpy().tolist() == ranked(vectors, ids, query)[:20]


def test_similar_leaves_the_item_itself_out_and_knows_what_it_does_not_know(packaged):
    model, ids, vectors = packaged
    answer = model.signatures["similar"](
        item_id=tf.constant([ids[7], b"stranger"]), exclude_item_id=tf.constant([[""], [""]])
    )
    assert answer["item_id"][0].numpy().tolist() == ranked(vectors, ids, vectors[7], [ids[7]])[:20]
    assert set(answer["item_id"][1].numpy()) == {b""}


def test_recall_counts_each_querys_own_answers():
    exact = np.array([[0, 1], [2, 3], [4, 5]])
    found = np.array([[2, 3], [3, 7], [5, 4]], np.int32)  # the neighbour's answers, one of two, all
    assert compute_recall(found, exact) == pytest.approx((0 + 1 / 2 + 1) / 3)
    assert compute_recall(np.full((3, 2), -1, np.int32), exact) == 0  # nothing found is not the row before


def test_the_index_tunes_itself_to_its_recall():
    rng = np.random.default_rng(0)
    centres = unit(rng, 50, 32)
    vectors = centres[rng.integers(50, size=20_000)] + 0.1 * rng.normal(size=(20_000, 32)).astype(np.float32)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    queries = (vectors[:200] + 0.02 * rng.normal(size=(200, 32))).astype(np.float32)
    exact = np.argsort(-(queries @ vectors.T), axis=1)[:, :100]
    index = ScannIndex(vectors)
    assert tune(index, queries[:100], exact[:100], 0.95) >= 0.95
    assert index.setting.leaves_to_search < index.num_leaves
    _, found = index(tf.constant(queries[100:]), tf.constant(100))
    held_out = compute_recall(found.numpy(), exact[100:])
    assert held_out > 0.9
    # The recall is the setting's doing: with one leaf it is far away.
    index.setting = type(index.setting)(1, 1.0)
    assert (
        compute_recall(index(tf.constant(queries[100:]), tf.constant(100))[1].numpy(), exact[100:]) < held_out
    )


def test_an_index_that_finds_too_few_fills_with_nothing(tmp_path):
    """One leaf of a tree holds fewer than k items: the places left over must be empty, not item 0."""
    rng = np.random.default_rng(0)
    vectors = unit(rng, 2500)
    ids = np.array([b"i%04d" % i for i in range(2500)], object)
    (tmp_path / "ids.txt").write_bytes(b"\n".join(ids) + b"\n")
    index = ScannIndex(vectors)
    index.setting = type(index.setting)(1, 1.0)
    package = RetrievalPackage(None, ids, vectors, index, 500, str(tmp_path / "ids.txt"))
    answer = package.similar(tf.constant([ids[3]]), tf.constant([[""]]))
    found = answer["item_id"][0].numpy().tolist()
    filled = [x for x in found if x]
    assert 0 < len(filled) < 500 and len(set(filled)) == len(filled)
    assert found[len(filled) :] == [b""] * (500 - len(filled))
    rows = [int(x[1:]) for x in filled]
    np.testing.assert_allclose(answer["scores"][0][: len(rows)], vectors[rows] @ vectors[3], atol=1e-5)

"""The ScaNN index against the exact one, and the package's answers against a plain sort."""

import types

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from components.flavours import BRUTE_FORCE, FLAVOURS, SCANN, package_dir
from components.index_builder.build import build_packages
from components.index_builder.package import MAX_ROWS, BruteForce, RetrievalPackage
from components.index_builder.scann_index import ScannIndex, compute_recall, tune
from trainers.retrieval import export

DIM = 8
SIMILAR_DIM = 5


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
    make_index = BruteForce if request.param == "brute_force" else ScannIndex
    indexes = make_index(vectors), make_index(successors())
    package = RetrievalPackage(loaded, ids, indexes[0], anchors(), indexes[1], 20, str(path / "item_ids.txt"))
    package.save(str(path / "saved"))
    return tf.saved_model.load(str(path / "saved")), ids, vectors


def anchors():
    """The items as queries for others; of another width than users' vectors."""
    return unit(np.random.default_rng(10), 300, SIMILAR_DIM)


def successors():
    """The items as answers to others."""
    return unit(np.random.default_rng(11), 300, SIMILAR_DIM)


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


@pytest.fixture(scope="module")
def answerer(tmp_path_factory):
    """Packages 300 items at depth 20 behind a search, without towers; and the items' vectors."""
    path = tmp_path_factory.mktemp("answerer") / "item_ids.txt"
    ids = np.array([b"i%03d" % i for i in range(300)], object)
    path.write_bytes(b"\n".join(ids) + b"\n")
    vectors = unit(np.random.default_rng(0), 300)
    return lambda search: RetrievalPackage(None, ids, search, vectors, search, 20, str(path)), ids, vectors


def test_each_row_leaves_out_its_own_items_in_whatever_order_and_however_often_named(answerer):
    make, ids, vectors = answerer
    rng = np.random.default_rng(6)
    exclude = np.array([rng.choice(ids, 400) for _ in range(9)], object)
    exclude[:, ::7] = b"stranger"
    items = ids[:9]
    package = make(BruteForce(vectors))
    answer = package.similar(tf.constant(items.tolist()), tf.constant(exclude.tolist()))
    for row, item in enumerate(items):
        expected = ranked(vectors, ids, vectors[row], [item, *exclude[row]])[:20]
        assert answer["item_id"][row].numpy().tolist() == [*expected, *[b""] * (20 - len(expected))]


def test_only_items_of_the_catalogue_make_a_search_deeper(answerer):
    make, ids, vectors = answerer
    depths = []
    index = BruteForce(vectors)

    def search(queries, k):
        depths.append(int(k))
        return index(queries, k)

    tf.config.run_functions_eagerly(True)
    try:
        package = make(search)
        for exclude in ([[b""] * 50], [[b"stranger"] * 50], [ids[50:57].tolist() + [b""] * 50]):
            package.similar(tf.constant([ids[0]]), tf.constant(exclude))
        package.similar(tf.zeros([0], tf.string), tf.zeros([0, 3], tf.string))
    finally:
        tf.config.run_functions_eagerly(False)
    assert depths == [21, 21, 28, 20]  # the item itself is left out too


def test_no_table_of_items_by_exclusions_is_made(answerer):
    """A million exclusions would make it a million times as deep as the search."""
    make, _, vectors = answerer
    package = make(BruteForce(vectors))
    ranks = [
        tensor.shape.rank
        for op in package.similar.get_concrete_function().graph.get_operations()
        for tensor in op.outputs
    ]
    assert None not in ranks and max(ranks) == 2


@pytest.mark.parametrize(
    ("signature", "inputs", "message"),
    [
        ("serving_default", {"examples": MAX_ROWS + 1}, "examples: expected equally many"),
        ("query_vector", {"examples": MAX_ROWS + 1}, "examples: expected equally many"),
        ("recommend_examples", {"examples": 2, "exclude_item_id": 1}, "examples, exclude_item_id: expected"),
        ("recommend", {"query": 3, "exclude_item_id": 1}, "exclude_item_id, query: expected"),
        ("similar", {"item_id": 1, "exclude_item_id": 2}, "item_id, exclude_item_id: expected"),
    ],
)
def test_inputs_of_unequal_or_too_many_rows_are_refused_by_name(packaged, signature, inputs, message):
    model, _, _ = packaged
    vector = np.zeros(DIM, np.float32)
    values = {"query": vector, "examples": vector.tobytes(), "item_id": b"i001", "exclude_item_id": [b""]}
    tensors = {name: tf.constant([values[name]] * count) for name, count in inputs.items()}
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        model.signatures[signature](**tensors)
    sizes = " ".join(str(count) for count in inputs.values())
    assert message in str(caught.value) and f"{MAX_ROWS} at most" in str(caught.value)
    assert f"got] [{sizes}]" in str(caught.value) or f"got] [{sizes[::-1]}]" in str(caught.value)


@pytest.fixture(scope="module")
def ask_with_history(answerer):
    """Calls `recommend` with two rows of a history whose lists have the widths given."""
    make, _, vectors = answerer
    names = ("history_brand", "history_item_id", "history_price")

    @tf.function
    def from_raw(**inputs):
        return {export.VECTORS: tf.ones([tf.shape(inputs["gender"])[0], DIM])}

    spec = {name: tf.TensorSpec([None, None], tf.string, name) for name in (*names, "gender")}
    package = make(BruteForce(vectors))
    package._towers = types.SimpleNamespace(
        signatures={export.QUERY_RAW_SIGNATURE: from_raw.get_concrete_function(**spec)}
    )
    recommend = package.recommend()

    def ask(*widths):
        lists = {name: tf.fill([2, width], "x") for name, width in zip(names, widths, strict=True)}
        return recommend(**lists, gender=tf.fill([2, 4], "f"), exclude_item_id=tf.fill([2, 5], ""))

    return ask


@pytest.mark.parametrize("widths", [(3, 3, 3), (0, 0, 0), (0, 3, 3)])
def test_the_lists_of_a_history_are_of_one_length_or_left_out(ask_with_history, widths):
    assert ask_with_history(*widths)["item_id"].shape == (2, 20)


@pytest.mark.parametrize("widths", [(2, 1, 2), (1, 2, 2), (0, 2, 3)])
def test_a_history_that_contradicts_itself_is_refused_by_name(ask_with_history, widths):
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        ask_with_history(*widths)
    message = str(caught.value)
    assert "history_brand, history_item_id, history_price: expected lists of one length" in message
    assert f"got] [{' '.join(map(str, widths))}]" in message


def test_the_raw_signature_answers_like_the_examples(packaged):
    model, ids, vectors = packaged
    queries = unit(np.random.default_rng(4), 3)
    answer = model.signatures["recommend"](
        query=tf.constant(queries), exclude_item_id=tf.constant([[""]] * 3)
    )
    for row, query in enumerate(queries):
        assert answer["item_id"][row].numpy().tolist() == ranked(vectors, ids, query)[:20]


def test_similar_leaves_the_item_itself_out_and_knows_what_it_does_not_know(packaged):
    model, ids, _ = packaged
    answer = model.signatures["similar"](
        item_id=tf.constant([ids[7], b"stranger"]), exclude_item_id=tf.constant([[""], [""]])
    )
    assert answer["item_id"][0].numpy().tolist() == ranked(successors(), ids, anchors()[7], [ids[7]])[:20]
    assert set(answer["item_id"][1].numpy()) == {b""}


@pytest.mark.parametrize("batch", [1, 4])
def test_similar_leaves_out_what_it_is_told_to(packaged, batch):
    model, ids, _ = packaged
    best = [ranked(successors(), ids, anchors()[i], [ids[i]])[:3] for i in range(batch)]
    exclude = [[*items, b"", b"stranger"] for items in best]
    answer = model.signatures["similar"](
        item_id=tf.constant(ids[:batch].tolist()), exclude_item_id=tf.constant(exclude)
    )
    for row in range(batch):
        expected = ranked(successors(), ids, anchors()[row], [ids[row], *exclude[row]])[:20]
        assert answer["item_id"][row].numpy().tolist() == expected


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


def test_a_search_for_more_than_it_was_tuned_to_opens_more_leaves():
    """The next best after a thousand exclusions lie in other leaves than the best."""
    rng = np.random.default_rng(0)
    vectors = unit(rng, 20_000, 16)
    queries = unit(rng, 60, 16)
    exact = np.argsort(-(queries @ vectors.T), axis=1)[:, :1100]
    index = ScannIndex(vectors)
    tune(index, queries[:40], exact[:40, :100], 0.8)
    deep = exact[40:, 1000:]

    def recall():
        return compute_recall(index(tf.constant(queries[40:]), tf.constant(1100))[1].numpy(), deep)

    assert index.setting.leaves_to_search < index.num_leaves / 2 and recall() > 0.9
    index.depth = 1100
    assert recall() < 0.8, "else the line above could not fail"


def test_an_index_that_finds_too_few_fills_with_nothing(tmp_path):
    """One leaf of a tree holds fewer than k items: the places left over must be empty, not item 0."""
    rng = np.random.default_rng(0)
    vectors = unit(rng, 2500)
    ids = np.array([b"i%04d" % i for i in range(2500)], object)
    (tmp_path / "ids.txt").write_bytes(b"\n".join(ids) + b"\n")
    index = ScannIndex(vectors)
    index.setting = type(index.setting)(1, 1.0)
    package = RetrievalPackage(None, ids, index, vectors, index, 500, str(tmp_path / "ids.txt"))
    answer = package.similar(tf.constant([ids[3]]), tf.constant([[""]]))
    found = answer["item_id"][0].numpy().tolist()
    filled = [x for x in found if x]
    assert 0 < len(filled) < 500 and len(set(filled)) == len(filled)
    assert found[len(filled) :] == [b""] * (500 - len(filled))
    rows = [int(x[1:]) for x in filled]
    np.testing.assert_allclose(answer["scores"][0][: len(rows)], vectors[rows] @ vectors[3], atol=1e-5)


STORED = {
    "item_id": tf.io.FixedLenFeature([], tf.string),
    "user": tf.io.FixedLenFeature([DIM], tf.float32),
    "anchor": tf.io.FixedLenFeature([SIMILAR_DIM], tf.float32),
    "successor": tf.io.FixedLenFeature([SIMILAR_DIM], tf.float32),
}


class StoredTowers(tf.Module):
    """A trained model of either kind: an item example holds the item's id and vectors."""

    def signature(self, column):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, export.EXAMPLES)])
        def read(examples):
            row = tf.io.parse_example(examples, STORED)
            return {"item_id": row["item_id"], export.VECTORS: row[column]}

        return read

    @tf.function(input_signature=[tf.TensorSpec([None, DIM], tf.float32, "query")])
    def query_vector_raw(self, query):
        return {export.VECTORS: query}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Packages of 60 items, built with a model for items and without; and the items' vectors by column."""
    path = tmp_path_factory.mktemp("built")
    rng = np.random.default_rng(0)
    columns = {
        "user": unit(rng, 60),
        "anchor": unit(rng, 60, SIMILAR_DIM),
        "successor": unit(rng, 60, SIMILAR_DIM),
    }
    with tf.io.TFRecordWriter(str(path / "items.gz"), "GZIP") as writer:
        for i in rng.permutation(60):
            feature = {
                name: tf.train.Feature(float_list=tf.train.FloatList(value=vectors[i]))
                for name, vectors in columns.items()
            }
            feature["item_id"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"i%02d" % i]))
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    towers = StoredTowers()
    users = {
        export.QUERY_SIGNATURE: towers.signature("user"),
        export.QUERY_RAW_SIGNATURE: towers.query_vector_raw,
        export.ITEM_SIGNATURE: towers.signature("user"),
    }
    items = {
        export.ANCHOR_SIGNATURE: towers.signature("anchor"),
        export.ITEM_SIGNATURE: towers.signature("successor"),
    }
    tf.saved_model.save(towers, str(path / "users"), signatures=users)
    tf.saved_model.save(towers, str(path / "items"), signatures=items)
    (path / "users" / export.EXTRA_DIR).mkdir()
    (path / "none").mkdir()
    for name in ("items", "none"):
        build_packages(
            str(path / "users"),
            str(path / name),
            [str(path / "items.gz")],
            [str(path / "items.gz")],
            packages_dir=str(path / f"packages_{name}"),
            report_dir=str(path / f"report_{name}"),
            depth=10,
            target_recall=0.9,
        )
    return path, columns


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize(
    ("model", "anchor", "successor"), [("items", "anchor", "successor"), ("none", "user", "user")]
)
def test_similar_comes_of_the_item_to_item_model_where_there_is_one(built, flavour, model, anchor, successor):
    path, columns = built
    package = tf.saved_model.load(package_dir(str(path / f"packages_{model}"), flavour))
    ids = np.array([b"i%02d" % i for i in range(60)], object)
    answer = package.signatures["similar"](
        item_id=tf.constant(ids.tolist()), exclude_item_id=tf.constant([[b""]] * 60)
    )
    for i, item in enumerate(ids):
        expected = ranked(columns[successor], ids, columns[anchor][i], [item])[:10]
        assert answer["item_id"][i].numpy().tolist() == expected


def test_the_exact_flavour_holds_no_custom_op(built):
    path, _ = built
    found = {}
    for flavour in FLAVOURS:
        content = saved_model_pb2.SavedModel()
        folder = package_dir(str(path / "packages_items"), flavour)
        with open(f"{folder}/saved_model.pb", "rb") as stream:
            content.ParseFromString(stream.read())
        functions = content.meta_graphs[0].graph_def.library.function
        found[flavour] = {node.op for function in functions for node in function.node_def}
    assert not {op for op in found[BRUTE_FORCE] if ">" in op or "Scann" in op}
    assert {op for op in found[SCANN] if "Scann" in op}, "else the line above could not fail"


def test_two_indexes_of_one_process_are_two():
    """One loaded before must not answer for another, be it of the same shape."""
    query = unit(np.random.default_rng(0), 1)
    for seed in (1, 2):
        vectors = unit(np.random.default_rng(seed), 50)
        _, rows = ScannIndex(vectors)(tf.constant(query), tf.constant(10))
        assert rows[0].numpy().tolist() == np.argsort(-(vectors @ query[0]))[:10].tolist()

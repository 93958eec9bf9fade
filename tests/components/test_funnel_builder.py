"""The package of both stages against the models it was made of; and what it refuses to be made of."""

import shutil
import types

import numpy as np
import pytest
import tensorflow as tf

from components.flavours import FLAVOURS, package_dir
from components.funnel_builder.build import build_funnel
from components.funnel_builder.prerank_package import MAX_CANDIDATES, MAX_PAIRS, FunnelPackage
from components.index_builder.build import IDS_FILE, build_packages
from components.index_builder.package import MAX_ROWS
from schemas import features as f
from trainers.prerank import export as student_export
from trainers.retrieval import export

NUM_ITEMS = 60
DEPTH = 10
WIDTHS = {"query": 8, "vector": 8, "user": 6, "item": 6}  # retrieval's two sides, then the student's
TASKS = (f.CLICKED, f.CONVERTED)
SMALLEST = np.finfo(np.float32).min
DWELL = "dwell_seconds"


class Stored(tf.Module):
    """A trained model: an example holds an item's id and the vectors, a vocabulary is one word."""

    def __init__(self, vocabulary):
        super().__init__()
        self._vocabulary = tf.saved_model.Asset(str(vocabulary))

    def parse(self, examples, *columns):
        spec = {name: tf.io.FixedLenFeature([WIDTHS[name]], tf.float32) for name in columns}
        return tf.io.parse_example(examples, {**spec, f.ITEM_ID: tf.io.FixedLenFeature([], tf.string, "")})

    def vectors(self, column, with_id=False):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, export.EXAMPLES)])
        def read(examples):
            row = self.parse(examples, column)
            return {export.VECTORS: row[column], **({f.ITEM_ID: row[f.ITEM_ID]} if with_id else {})}

        return read

    def raw(self, column):
        spec = tf.TensorSpec([None, WIDTHS[column]], tf.float32, column)
        return tf.function(lambda **x: {export.VECTORS: x[column]}).get_concrete_function(**{column: spec})


class Student(Stored):
    """Its vectors hold one of three columns for each task."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 6], tf.float32, student_export.USER_VECTORS),
            tf.TensorSpec([None, None, 6], tf.float32, student_export.ITEM_VECTORS),
        ]
    )
    def score_vectors(self, user_vectors, item_vectors):
        logits = tf.reduce_sum(
            tf.reshape(
                user_vectors[:, tf.newaxis] * item_vectors, [*tf.unstack(tf.shape(item_vectors)[:2]), 2, 3]
            ),
            axis=3,
        )
        return dict(zip(TASKS, tf.unstack(tf.sigmoid(logits - 1.0), axis=2), strict=True))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, export.EXAMPLES)])
    def score_examples(self, examples):
        row = self.parse(examples, "user", "item")
        products = row["user"] * row["item"]
        return {
            task: tf.sigmoid(tf.reduce_sum(products[:, 3 * k : 3 * k + 3], axis=1) - 1.0)
            for k, task in enumerate(TASKS)
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, export.EXAMPLES)])
    def score_by_dwell(self, examples):
        dwell = tf.io.parse_example(examples, {DWELL: tf.io.FixedLenFeature([], tf.float32, 0.0)})[DWELL]
        return {task: x + dwell for task, x in self.score_examples(examples).items()}

    def save(self, path, **changed):
        signatures = {
            student_export.USER_SIGNATURE: self.vectors("user"),
            student_export.USER_RAW_SIGNATURE: self.raw("user"),
            student_export.ITEM_SIGNATURE: self.vectors("item", with_id=True),
            student_export.SCORE_VECTORS_SIGNATURE: self.score_vectors,
            student_export.SCORE_SIGNATURE: self.score_examples,
        }
        tf.saved_model.save(self, str(path), signatures={**signatures, **changed})


def make_example(**values):
    example = tf.train.Example()
    for name, value in values.items():
        feature = example.features.feature[name]
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        else:
            feature.float_list.value.extend(np.atleast_1d(value))
    return example.SerializeToString()


def write_items(path, columns, count=NUM_ITEMS):
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for i in np.random.default_rng(1).permutation(count):
            vectors = {name: x[i] for name, x in columns.items()}
            writer.write(make_example(item_id=b"i%02d" % i, **vectors))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with the retrieval packages, a student and the items; and the items' vectors by column."""
    path = tmp_path_factory.mktemp("models")
    rng = np.random.default_rng(0)
    columns = {name: rng.normal(size=(NUM_ITEMS, x)).astype(np.float32) for name, x in WIDTHS.items()}
    write_items(path / "items.gz", columns)
    (path / "user_id").write_text("u1\n")
    towers = Stored(path / "user_id")
    signatures = {
        export.QUERY_SIGNATURE: towers.vectors("query"),
        export.QUERY_RAW_SIGNATURE: towers.raw("query"),
        export.ITEM_SIGNATURE: towers.vectors("vector", with_id=True),
    }
    tf.saved_model.save(towers, str(path / "towers"), signatures=signatures)
    (path / "towers" / export.EXTRA_DIR).mkdir()
    (path / "towers" / export.EXTRA_DIR / export.ORIGIN_FILE).write_text("{}")
    items = [str(path / "items.gz")]
    retrieval = str(path / "retrieval")
    build_packages(str(path / "towers"), "", items, items, retrieval, str(path / "report"), 20, 0.9)
    Student(path / "user_id").save(path / "student")
    return path, columns


def build(path, funnel_dir, **changed):
    """Builds the packages of a folder's models."""
    given = {"retrieval_dir": path / "retrieval", "student_dir": path / "student", "funnel_dir": funnel_dir}
    paths = {name: str(changed.get(name, value)) for name, value in given.items()}
    items = [str(changed.get("items", path / "items.gz"))]
    build_funnel(**paths, item_patterns=items, depth=DEPTH, privileged_names=[DWELL])


@pytest.fixture(scope="module")
def funnel(models):
    """Where the packages of both stages lie."""
    path, _ = models
    build(path, path / "funnel")
    return str(path / "funnel")


@pytest.fixture(scope="module")
def signatures(funnel):
    return tf.saved_model.load(package_dir(funnel, FLAVOURS[0])).signatures


def expected(student, users, candidates):
    """By the pair scorer: each user's candidates once, best first, as (item, probabilities)."""
    answers = []
    for user, items in zip(users, candidates, strict=True):
        known = sorted({item for item in items if item in student.rows})
        pairs = [make_example(user=user, item=student.rows[item]) for item in known]
        scores = student.signatures["score_examples"](examples=tf.constant(pairs, tf.string))
        by_task = np.stack([scores[task].numpy() for task in TASKS], axis=1)
        order = np.argsort(-by_task[:, 0], kind="stable")[:DEPTH]
        answers.append([(known[i], by_task[i]) for i in order])
    return answers


def assert_answer(answer, expected):
    ids = answer[f.ITEM_ID].numpy()
    scores = np.stack([answer[task].numpy() for task in TASKS], axis=2)
    for row, pairs in enumerate(expected):
        count = len(pairs)
        assert ids[row].tolist() == [item for item, _ in pairs] + [b""] * (ids.shape[1] - count)
        wanted = np.reshape([probabilities for _, probabilities in pairs], [count, len(TASKS)])
        np.testing.assert_allclose(scores[row, :count], wanted, rtol=0, atol=1e-5)
        assert (scores[row, count:] == SMALLEST).all()


@pytest.fixture(scope="module")
def student(models):
    path, columns = models
    loaded = tf.saved_model.load(str(path / "student"))
    loaded.rows = {b"i%02d" % i: vector for i, vector in enumerate(columns["item"])}
    return loaded


def draw_candidates(rng, rows, width):
    """Ids in any order, some twice, some of strangers, some empty."""
    pool = [b"i%02d" % i for i in range(NUM_ITEMS)] + [b"stranger", b"", b""]
    return np.array(rng.choice(pool, (rows, width)), object)


@pytest.mark.parametrize(
    ("rows", "width"), [(1, 1), (1, 40), (7, 40), (3, DEPTH - 1), (3, 200), (2, 0), (0, 5)]
)
def test_candidates_are_ranked_as_the_pair_scorer_ranks_them(signatures, student, rows, width):
    rng = np.random.default_rng(rows + width)
    users = rng.normal(size=(rows, 6)).astype(np.float32)
    candidates = draw_candidates(rng, rows, width)
    wanted = expected(student, users, candidates)
    ids = tf.constant(candidates, tf.string, shape=(rows, width))
    examples = tf.constant([make_example(user=user) for user in users], tf.string, shape=(rows,))
    for answer in (
        signatures["prerank"](user=users, candidate_item_id=ids),
        signatures["prerank_examples"](examples=examples, candidate_item_id=ids),
    ):
        assert answer[f.ITEM_ID].shape == (rows, min(width, DEPTH))
        assert_answer(answer, wanted)


def test_the_order_of_the_candidates_changes_nothing(signatures):
    users = np.zeros((1, 6), np.float32)  # every probability is the same
    ids = [b"i%02d" % i for i in range(NUM_ITEMS)]
    for candidates in (ids, ids[::-1]):
        answer = signatures["prerank"](user=users, candidate_item_id=tf.constant([candidates]))
        assert answer[f.ITEM_ID][0].numpy().tolist() == ids[:DEPTH]


def test_no_candidate_that_is_known_gives_empty_places(signatures):
    ids = tf.constant([[b"stranger", b"", b"i99"]])
    answer = signatures["prerank"](user=np.ones((1, 6), np.float32), candidate_item_id=ids)
    assert_answer(answer, [[]])


def test_the_students_own_signatures_are_there(signatures, student):
    rng = np.random.default_rng(5)
    examples = tf.constant([make_example(user=rng.normal(size=6), item=rng.normal(size=6)) for _ in range(4)])
    pairs = {"prerank_score_examples": "score_examples", "prerank_user_vector": "user_vector"}
    for name, original in pairs.items():
        answer, wanted = signatures[name](examples=examples), student.signatures[original](examples=examples)
        assert answer.keys() == wanted.keys()
        for output in wanted:
            np.testing.assert_array_equal(answer[output], wanted[output])


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_retrieval_signatures_are_unchanged(models, funnel, flavour):
    path, columns = models
    before = tf.saved_model.load(package_dir(str(path / "retrieval"), flavour)).signatures
    after = tf.saved_model.load(package_dir(funnel, flavour)).signatures
    queries = columns["query"][:5]
    values = {
        "examples": tf.constant([make_example(query=x) for x in queries]),
        "query": tf.constant(queries),
        "item_id": tf.constant([b"i%02d" % i for i in range(5)]),
        "exclude_item_id": tf.constant([[b"i01", b"i02"]] * 5),
    }
    assert len(before) == 5
    for name, function in before.items():
        inputs = {x: values[x] for x in function.structured_input_signature[1]}
        assert after[name].structured_input_signature[1].keys() == inputs.keys()
        wanted, answer = function(**inputs), after[name](**inputs)
        assert answer.keys() == wanted.keys()
        for output in wanted:
            np.testing.assert_array_equal(answer[output], wanted[output])


def test_what_a_warm_start_needs_travels_along(funnel):
    for flavour in FLAVOURS:
        assert tf.io.gfile.exists(f"{package_dir(funnel, flavour)}/{export.EXTRA_DIR}/{export.ORIGIN_FILE}")


@pytest.mark.parametrize(
    ("rows", "candidate_rows", "width", "message"),
    [
        (2, 1, 3, "expected equally many rows of each"),
        (MAX_ROWS + 1, MAX_ROWS + 1, 1, f"{MAX_ROWS} at most"),
        (1, 1, MAX_CANDIDATES + 1, f"candidate_item_id: expected {MAX_CANDIDATES} at most a row"),
        (512, 512, MAX_PAIRS // 512 + 1, f"and {MAX_PAIRS} in all, got] [512 {MAX_PAIRS // 512 + 1}]"),
    ],
)
def test_a_request_beyond_the_limits_is_refused_by_name(signatures, rows, candidate_rows, width, message):
    ids = tf.fill([candidate_rows, width], "i00")
    for name, inputs in (
        ("prerank", {"user": tf.zeros([rows, 6])}),
        ("prerank_examples", {"examples": tf.fill([rows], make_example(user=np.zeros(6)))}),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError) as caught:
            signatures[name](candidate_item_id=ids, **inputs)
        assert message in str(caught.value)


def test_the_largest_requests_are_answered(signatures):
    for rows, width in ((1, MAX_CANDIDATES), (MAX_ROWS, MAX_PAIRS // MAX_ROWS)):
        ids = tf.tile(tf.constant([[b"i%02d" % (i % NUM_ITEMS) for i in range(width)]]), [rows, 1])
        answer = signatures["prerank"](user=tf.zeros([rows, 6]), candidate_item_id=ids)
        assert answer[f.ITEM_ID].shape == (rows, DEPTH)


def test_equal_inputs_make_equal_graphs(tmp_path):
    """A loaded student gives its tasks in another order in every process."""
    (tmp_path / IDS_FILE).write_text("i1\ni2\n")

    def build_graph(order):
        def score(user_vectors, item_vectors):
            scores = {task: tf.reduce_sum(item_vectors, axis=2) for task in TASKS}
            return {task: scores[task] for task in order}

        signatures = {
            student_export.USER_SIGNATURE: lambda examples: {student_export.VECTORS: examples},
            student_export.SCORE_VECTORS_SIGNATURE: score,
        }
        student = types.SimpleNamespace(signatures=signatures)
        ids, vectors = np.array([b"i1", b"i2"], object), np.zeros((2, 6), np.float32)
        package = FunnelPackage(None, student, ids, vectors, DEPTH, str(tmp_path / IDS_FILE))
        graph = package.from_examples.get_concrete_function().graph.as_graph_def()
        return [(node.name, node.op, list(node.input)) for node in graph.node]

    assert build_graph(TASKS) == build_graph(TASKS[::-1])


def refuse(models, tmp_path, message, **changed):
    """The build must fail, say so, and leave nothing behind."""
    with pytest.raises(ValueError, match=message):
        build(models[0], tmp_path / "funnel", **changed)
    assert not list((tmp_path / "funnel").glob("*"))


def test_models_of_different_transform_graphs_are_refused(models, tmp_path):
    shutil.copytree(models[0] / "student", tmp_path / "student")
    (tmp_path / "student" / "assets" / "user_id").write_text("u2\n")
    refuse(
        models,
        tmp_path,
        "different Transform graphs: .*assets/user_id differs",
        student_dir=tmp_path / "student",
    )
    (tmp_path / "student" / "assets" / "user_id").write_text("u1\n")
    (tmp_path / "student" / "assets" / "brand").write_text("b1\n")
    refuse(models, tmp_path, "retrieval/.*/assets/brand is missing", student_dir=tmp_path / "student")


def test_another_catalogue_is_refused(models, tmp_path):
    write_items(tmp_path / "items.gz", models[1], NUM_ITEMS - 3)
    refuse(models, tmp_path, f"{IDS_FILE}: 3 items .* 'i57' for one", items=tmp_path / "items.gz")


def test_vectors_that_are_not_finite_are_refused(models, tmp_path):
    broken = models[1]["item"].copy()
    broken[7, 3] = np.nan
    write_items(tmp_path / "items.gz", {**models[1], "item": broken})
    refuse(models, tmp_path, "item_vector gives NaN .* for 1 of 60 rows", items=tmp_path / "items.gz")


def test_a_student_that_reads_a_privileged_feature_is_refused(models, tmp_path):
    student = Student(models[0] / "user_id")
    student.save(tmp_path / "student", score_examples=student.score_by_dwell)
    refuse(models, tmp_path, f"prerank_score_examples: {DWELL}", student_dir=tmp_path / "student")


def test_a_damaged_student_is_refused_by_name(models, tmp_path):
    shutil.copytree(models[0] / "student", tmp_path / "student")
    (tmp_path / "student" / "saved_model.pb").write_bytes(b"not a model")
    refuse(models, tmp_path, f"{tmp_path}/student: cannot be loaded", student_dir=tmp_path / "student")

"""Small models of every stage, stored, and packages that are built of them."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from components.funnel_builder import prerank_package, rank_package
from components.funnel_builder.build import FunnelDepths, build_funnel
from components.index_builder.build import build_packages
from schemas import features as f
from trainers.prerank import export as student_export
from trainers.ranking import export as ranker_export
from trainers.raw_features import SCORE_SIGNATURE
from trainers.retrieval import export
from trainers.scorers.data import REQUEST

NUM_ITEMS = 60
# Two sides of each stage: retrieval's, the student's, the ranker's.
WIDTHS = {"query": 8, "vector": 8, "user": 6, "item": 6, "visitor": 5, "offer": 5}
TASKS = (f.CLICKED, f.CONVERTED)
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

    def score_by_dwell(self):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, export.EXAMPLES)])
        def score(examples):
            dwell = tf.io.parse_example(examples, {DWELL: tf.io.FixedLenFeature([], tf.float32, 0.0)})[DWELL]
            return {task: x + dwell for task, x in self.score_examples(examples).items()}

        return score


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

    def save(self, path, **changed):
        signatures = {
            student_export.USER_SIGNATURE: self.vectors("user"),
            student_export.USER_RAW_SIGNATURE: self.raw("user"),
            student_export.ITEM_SIGNATURE: self.vectors("item", with_id=True),
            student_export.SCORE_VECTORS_SIGNATURE: self.score_vectors,
            SCORE_SIGNATURE: self.score_examples,
        }
        tf.saved_model.save(self, str(path), signatures={**signatures, **changed})


class Ranker(Stored):
    """An encoded item is a vector, and a list of whole numbers that the score depends on too."""

    def encode(self, offer):
        return {"offer": offer, "signs": tf.cast(tf.sign(offer[:, :3]), tf.int64)}

    def score(self, visitor, items):
        products = tf.reduce_sum(visitor * items["offer"], axis=1)
        signs = tf.cast(items["signs"], tf.float32)
        return {f.CLICKED: tf.sigmoid(products + tf.linalg.matvec(signs, [0.3, -0.2, 0.1]) - 1.0)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, export.EXAMPLES)])
    def encode_items(self, examples):
        row = self.parse(examples, "offer")
        return {f.ITEM_ID: row[f.ITEM_ID], **self.encode(row["offer"])}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, export.EXAMPLES)])
    def score_examples(self, examples):
        row = self.parse(examples, "visitor", "offer")
        return self.score(row["visitor"], self.encode(row["offer"]))

    def rank_encoded(self, read_query, query_spec):
        """Scores encoded items, each for its request among the queries."""
        specs = {
            query_spec.name: query_spec,
            "offer": tf.TensorSpec([None, WIDTHS["offer"]], tf.float32, "offer"),
            "signs": tf.TensorSpec([None, 3], tf.int64, "signs"),
            REQUEST: tf.TensorSpec([None], tf.int32, REQUEST),
        }

        @tf.function
        def rank(**inputs):
            visitors = read_query(inputs[query_spec.name])
            return self.score(tf.gather(visitors, inputs[REQUEST]), inputs)

        return rank.get_concrete_function(**specs)

    def rank_examples(self, *read_besides):
        def read(examples):
            visitors = self.parse(examples, "visitor")["visitor"]
            for name in read_besides:
                spec = {name: tf.io.FixedLenFeature([], tf.float32, 0.0)}
                visitors += tf.io.parse_example(examples, spec)[name][:, tf.newaxis]
            return visitors

        return self.rank_encoded(read, tf.TensorSpec([None], tf.string, export.EXAMPLES))

    def save(self, path, **changed):
        raw = tf.TensorSpec([None, WIDTHS["visitor"]], tf.float32, "visitor")
        signatures = {
            SCORE_SIGNATURE: self.score_examples,
            ranker_export.ITEMS_SIGNATURE: self.encode_items,
            ranker_export.RANK_SIGNATURE: self.rank_examples(),
            ranker_export.RANK_RAW_SIGNATURE: self.rank_encoded(tf.identity, raw),
        }
        tf.saved_model.save(self, str(path), signatures={**signatures, **changed})


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage that ranks candidates.

    Attributes:
      name: of its signature; `<name>_examples` and `<name>_score_examples` are beside it.
      model: the folder of what it is made of.
      query: the column of the query, which is the raw input too.
      item: the column of the items.
      tasks: what it says of an item.
      depth: items returned at most.
      max_candidates: of a row.
      max_pairs: of a request.
    """

    name: str
    model: str
    query: str
    item: str
    tasks: tuple[str, ...]
    depth: int
    max_candidates: int
    max_pairs: int


STAGES = (
    Stage(
        *("prerank", "student", "user", "item", TASKS, 10),
        *(prerank_package.MAX_CANDIDATES, prerank_package.MAX_PAIRS),
    ),
    Stage(
        *("rank", "ranker", "visitor", "offer", TASKS[:1], 7),
        *(rank_package.MAX_CANDIDATES, rank_package.MAX_PAIRS),
    ),
)


def _make_example(**values):
    example = tf.train.Example()
    for name, value in values.items():
        feature = example.features.feature[name]
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        else:
            feature.float_list.value.extend(np.atleast_1d(value))
    return example.SerializeToString()


def _write_items(path, columns, count=NUM_ITEMS):
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for i in np.random.default_rng(1).permutation(count):
            vectors = {name: x[i] for name, x in columns.items()}
            writer.write(_make_example(item_id=b"i%02d" % i, **vectors))


def _build(path, funnel_dir, **changed):
    given = {
        name: path / name.removesuffix("_dir") for name in ("retrieval_dir", "student_dir", "ranker_dir")
    }
    paths = {name: str(changed.get(name, value)) for name, value in given.items()}
    build_funnel(
        **paths,
        item_patterns=[str(changed.get("items", path / "items.gz"))],
        funnel_dir=str(funnel_dir),
        depths=FunnelDepths(**{stage.name: stage.depth for stage in STAGES}),
        privileged_names=[DWELL],
    )


@pytest.fixture(scope="session")
def make_example():
    """A tf.Example of bytes and numbers by name."""
    return _make_example


@pytest.fixture(scope="session")
def write_items():
    """(path, vectors by column, how many) -> a file of item examples in no order."""
    return _write_items


@pytest.fixture(scope="session")
def build():
    """(folder of the models, where the packages go, what shall be another) -> packages of all stages."""
    return _build


@pytest.fixture(scope="session")
def make_model():
    """(folder's name, vocabulary) -> a model of that stage, to be stored with signatures changed."""
    return lambda name, vocabulary: {"student": Student, "ranker": Ranker}[name](vocabulary)


@pytest.fixture(params=STAGES, ids=[stage.name for stage in STAGES])
def stage(request):
    return request.param


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder with the retrieval packages, a student, a ranker and the items; and the vectors by column."""
    path = tmp_path_factory.mktemp("models")
    rng = np.random.default_rng(0)
    columns = {name: rng.normal(size=(NUM_ITEMS, x)).astype(np.float32) for name, x in WIDTHS.items()}
    _write_items(path / "items.gz", columns)
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
    Ranker(path / "user_id").save(path / "ranker")
    return path, columns


@pytest.fixture(scope="session")
def funnel(models):
    """Where the packages of all stages lie."""
    path, _ = models
    _build(path, path / "funnel")
    return str(path / "funnel")

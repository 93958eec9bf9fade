from pipelines import tensorflow_setup  # noqa: F401, I001  (before TensorFlow)

import numpy as np
import pytest
import tensorflow as tf

from components.index_builder.package import BruteForce, RetrievalPackage
from components.retrieval_evaluator.query_set import QuerySet
from trainers.retrieval import export


class World:
    """Forty items, and what a test makes of them in its own folder.

    Args:
      folder: where examples and packages are written.
    """

    num_items = 40
    item_ids = tuple(f"i{number:02d}" for number in range(num_items))
    width = 6  # of the vectors

    def __init__(self, folder):
        self._folder = folder

    def make_queries(self, train=(), test=(), exclude_seen=True):
        """A query set over impressions given as arguments of `make_example`."""
        impressions, items = self._folder / "impressions", self._folder / "items"
        for name, rows in (("train", train), ("eval", ()), ("test", test)):
            write_split(impressions, name, [make_example(**row) for row in rows])
        write_split(items, "catalogue", [make_example(item=item) for item in self.item_ids])
        return QuerySet(str(impressions), [str(items / "*" / "*")], exclude_seen)

    def save_package(self, item_vectors, user_vectors, depth=num_items, name="package"):
        """Saves a package with the exact index; returns its folder.

        Args:
          item_vectors: [num_items, width].
          user_vectors: [users, width], of u0, u1, ...
          depth: how many items it answers with.
          name: of the folder.
        """
        towers = Towers(self.item_ids, item_vectors, user_vectors)
        signatures = {
            export.QUERY_SIGNATURE: towers.query_vector,
            export.QUERY_RAW_SIGNATURE: towers.query_vector_raw,
        }
        folder = self._folder / name
        tf.saved_model.save(towers, str(folder / "towers"), signatures=signatures)
        ids_file = folder / "ids.txt"
        ids_file.write_text("\n".join(self.item_ids) + "\n")
        vectors = item_vectors.astype(np.float32)
        loaded = tf.saved_model.load(str(folder / "towers"))
        ids = np.array([item.encode() for item in self.item_ids], object)
        index = BruteForce(vectors)
        package = RetrievalPackage(loaded, ids, index, vectors, index, depth, str(ids_file))
        package.save(str(folder / "model"))
        return str(folder / "model")


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def make_example(user="u1", item="i00", timestamp=0, clicked=1, history=(), known_at=()):
    def feature(value):
        if isinstance(value, int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        values = [value] if isinstance(value, str) else value
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[v.encode() for v in values]))

    values = {"user_id": user, "item_id": item, "timestamp": timestamp, "clicked": clicked}
    features = {name: feature(value) for name, value in values.items()}
    features["history_item_id"] = feature(list(history))
    features["history_timestamp"] = tf.train.Feature(int64_list=tf.train.Int64List(value=known_at))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write_split(folder, name, examples):
    path = folder / f"Split-{name}"
    path.mkdir(parents=True)
    with tf.io.TFRecordWriter(
        str(path / "part.gz"), tf.io.TFRecordOptions(compression_type="GZIP")
    ) as writer:
        for example in examples:
            writer.write(example)


class Towers(tf.Module):
    """The trainer's signatures: a query is the sum of its history's vectors and of its user's."""

    def __init__(self, item_ids, item_vectors, user_vectors):
        super().__init__()
        self.items = self._lookup(item_ids)
        self.users = self._lookup([f"u{number}" for number in range(len(user_vectors))])
        unknown = np.zeros(item_vectors.shape[1])  # row 0
        self.item_vectors = tf.Variable(np.vstack([unknown, item_vectors]), dtype=tf.float32)
        self.user_vectors = tf.Variable(np.vstack([unknown, user_vectors]), dtype=tf.float32)

    @staticmethod
    def _lookup(keys):
        values = tf.range(1, len(keys) + 1, dtype=tf.int64)
        return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(tf.constant(keys), values), 0)

    def _vectors(self, users, history):
        pooled = tf.reduce_sum(tf.gather(self.item_vectors, self.items.lookup(history)), axis=1)
        return {export.VECTORS: pooled + tf.gather(self.user_vectors, self.users.lookup(users))}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, export.EXAMPLES)])
    def query_vector(self, examples):
        spec = {
            "user_id": tf.io.FixedLenFeature([], tf.string),
            "history_item_id": tf.io.RaggedFeature(tf.string),
        }
        row = tf.io.parse_example(examples, spec)
        return self._vectors(row["user_id"], row["history_item_id"].to_tensor(""))

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, "user_id"),
            tf.TensorSpec([None, None], tf.string, "history_item_id"),
        ]
    )
    def query_vector_raw(self, user_id, history_item_id):
        return self._vectors(user_id, history_item_id)

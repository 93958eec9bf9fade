"""The models of TensorFlow Recommenders' tutorials, their sizes and training unchanged."""

import dataclasses

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from benchmarks.movielens.data import HeldOutData
from benchmarks.retrieval.tutorial import TutorialModel, train_tutorial_model

EMBEDDING_DIM = 32
LEARNING_RATE = 0.1
BATCH_SIZE = 2048
EPOCHS = 3
SHUFFLE_BUFFER = 100_000
TIME_BUCKETS = 1000
MAX_TOKENS = 10_000
_SCORE_BATCH = 4096


@dataclasses.dataclass(frozen=True)
class TutorialScorer:
    """The basic retrieval tutorial's model, which knows users by their ids [U]."""

    model: TutorialModel
    user_ids: np.ndarray

    def score(self, users: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        """See `data.Scorer`."""
        return self.model.score_users(self.user_ids[users])


def build_tutorial(data: HeldOutData, seed: int) -> TutorialScorer:
    """Trains the basic retrieval tutorial's model on titles, as the tutorial does."""
    user_ids, titles = _names(data)
    train = data.test.train
    model = train_tutorial_model(user_ids[train.users], titles[train.items], titles, seed)
    return TutorialScorer(model, user_ids)


def _names(data: HeldOutData) -> tuple[np.ndarray, np.ndarray]:
    """User ids [U] and titles [N]."""
    return data.movielens.users["user_id"].to_numpy(object), data.movielens.items["title"].to_numpy(object)


class ContextModel(tfrs.Model):
    """The context features tutorial's model, with timestamps.

    https://www.tensorflow.org/recommenders/examples/context_features: user id, the timestamp in 1,000 buckets
    and normalised; title as an id and as words; a dense layer of 32 on each side; in-batch softmax with a
    summed loss.

    Args:
      user_ids: [U].
      titles: [N].
      seconds: [R] of all ratings, those of the test split too, as in the tutorial.
    """

    def __init__(self, user_ids: np.ndarray, titles: np.ndarray, seconds: np.ndarray):
        super().__init__()
        layers = tf.keras.layers
        edges = np.linspace(seconds.min(), seconds.max(), TIME_BUCKETS)
        self._user = _embed(user_ids)
        self._time = tf.keras.Sequential(
            [layers.Discretization(edges.tolist()), layers.Embedding(TIME_BUCKETS + 1, EMBEDDING_DIM)]
        )
        self._normalized_time = layers.Normalization(axis=None)
        self._normalized_time.adapt(seconds)
        self._title = _embed(titles)
        vectorizer = layers.TextVectorization(max_tokens=MAX_TOKENS)
        vectorizer.adapt(titles)
        self._words = tf.keras.Sequential(
            [
                vectorizer,
                layers.Embedding(MAX_TOKENS, EMBEDDING_DIM, mask_zero=True),
                layers.GlobalAveragePooling1D(),
            ]
        )
        self._query_top, self._candidate_top = layers.Dense(EMBEDDING_DIM), layers.Dense(EMBEDDING_DIM)
        self._task = tfrs.tasks.Retrieval()

    def embed_queries(self, user_ids: tf.Tensor, seconds: tf.Tensor) -> tf.Tensor:
        """Vectors [B, 32] of users [B] at times [B]."""
        normalized = tf.reshape(self._normalized_time(seconds), [-1, 1])
        return self._query_top(tf.concat([self._user(user_ids), self._time(seconds), normalized], axis=1))

    def embed_items(self, titles: tf.Tensor) -> tf.Tensor:
        """Vectors [B, 32] of titles [B]."""
        return self._candidate_top(tf.concat([self._title(titles), self._words(titles)], axis=1))

    def compute_loss(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """The batch's summed loss (TFRS' hook)."""
        queries = self.embed_queries(inputs["user"], inputs["seconds"])
        return self._task(queries, self.embed_items(inputs["title"]), compute_metrics=False)


@dataclasses.dataclass(frozen=True)
class ContextScorer:
    """A trained `ContextModel`.

    Attributes:
      model: trained.
      user_ids: [U].
      items: the titles' vectors [N, 32].
    """

    model: ContextModel
    user_ids: np.ndarray
    items: np.ndarray

    def score(self, users: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        """See `data.Scorer`."""
        queries = self.model.embed_queries(tf.constant(self.user_ids[users]), tf.constant(seconds))
        return queries.numpy() @ self.items.T


def build_context_tutorial(data: HeldOutData, seed: int) -> ContextScorer:
    """Trains the context features tutorial's model as the tutorial does."""
    tf.keras.utils.set_random_seed(seed)
    user_ids, titles = _names(data)
    train = data.test.train
    model = ContextModel(user_ids, titles, data.movielens.ratings.seconds)
    model.compile(optimizer=tf.keras.optimizers.Adagrad(LEARNING_RATE))
    rows = tf.data.Dataset.from_tensor_slices(
        {"user": user_ids[train.users], "title": titles[train.items], "seconds": train.seconds}
    )
    shuffled = rows.shuffle(SHUFFLE_BUFFER, seed=seed, reshuffle_each_iteration=False)
    model.fit(shuffled.batch(BATCH_SIZE).cache(), epochs=EPOCHS, verbose=0)
    parts = np.array_split(titles, -(-len(titles) // _SCORE_BATCH))
    items = np.concatenate([model.embed_items(tf.constant(part)).numpy() for part in parts])
    return ContextScorer(model, user_ids, items)


def _embed(names: np.ndarray) -> tf.keras.Sequential:
    return tf.keras.Sequential(
        [
            tf.keras.layers.StringLookup(vocabulary=names, mask_token=None),
            tf.keras.layers.Embedding(len(names) + 1, EMBEDDING_DIM),
        ]
    )

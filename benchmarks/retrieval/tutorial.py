"""The model of TensorFlow Recommenders' basic retrieval tutorial, its sizes and training unchanged.

https://www.tensorflow.org/recommenders/examples/basic_retrieval: a user id embedding and an item id
embedding of 32, in-batch softmax with a summed loss, Adagrad at 0.1, batches of 8192, three epochs. No
history, no timestamp, no correction of the sampling. A user whom training never saw is out of vocabulary,
and that row of the embedding is never trained.
"""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from components.retrieval_evaluator.query_set import QueryBatch

EMBEDDING_DIM = 32
LEARNING_RATE = 0.1
BATCH_SIZE = 8192
EPOCHS = 3
SHUFFLE_BUFFER = 100_000


class TutorialModel(tfrs.Model):
    """Two embedding tables.

    Args:
      user_ids: of the training clicks.
      item_ids: [N] of the whole catalogue, as in the tutorial.
    """

    def __init__(self, user_ids: np.ndarray, item_ids: np.ndarray):
        super().__init__()
        self._item_ids = tf.constant(item_ids.astype(object))
        self._user_model = _embed(np.unique(user_ids))
        self._item_model = _embed(item_ids)
        self._task = tfrs.tasks.Retrieval()

    def compute_loss(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """The batch's summed loss (TFRS' hook)."""
        return self._task(
            self._user_model(inputs["user"]), self._item_model(inputs["item"]), compute_metrics=False
        )

    def score(self, batch: QueryBatch) -> np.ndarray:
        """Inner products [Q, N] with every item of the catalogue."""
        return self.score_users(batch.users)

    def score_users(self, user_ids: np.ndarray) -> np.ndarray:
        """The same for users [Q] by their ids."""
        users = self._user_model(tf.constant(user_ids))
        return tf.matmul(users, self._item_model(self._item_ids), transpose_b=True).numpy()


def train_tutorial_model(
    users: np.ndarray, items: np.ndarray, item_ids: np.ndarray, seed: int
) -> TutorialModel:
    """Trains as the tutorial does, its shuffle before the batches and its frozen batches included.

    Args:
      users: [C] ids of the training clicks.
      items: [C] ids.
      item_ids: [N] the catalogue.
      seed: of the initial values and the shuffle.
    """
    tf.keras.utils.set_random_seed(seed)
    model = TutorialModel(users, item_ids)
    model.compile(optimizer=tf.keras.optimizers.Adagrad(LEARNING_RATE))
    clicks = tf.data.Dataset.from_tensor_slices({"user": users.astype(object), "item": items.astype(object)})
    shuffled = clicks.shuffle(SHUFFLE_BUFFER, seed=seed, reshuffle_each_iteration=False)
    model.fit(shuffled.batch(BATCH_SIZE).cache(), epochs=EPOCHS, verbose=0)
    return model


def _embed(ids: np.ndarray) -> tf.keras.Sequential:
    return tf.keras.Sequential(
        [
            tf.keras.layers.StringLookup(vocabulary=ids.astype(object), mask_token=None),
            tf.keras.layers.Embedding(len(ids) + 1, EMBEDDING_DIM),
        ]
    )

"""Winnow's DIEN and DIN, one training step at a time."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.dien_speed.data import Sizes
from schemas import features as f
from trainers.layers.forms import AttentionForm
from trainers.preprocessing import EncodedFeature
from trainers.ranking.config import Interest, RankerConfig
from trainers.ranking.features import NEGATIVE_PREFIX
from trainers.ranking.train import build_training
from trainers.scorers.data import IS_ROW, QUERY, ROWS, Batch, TrainingData, flatten

SHARED_ROWS = 10  # of a request, where they share its history as logs have it
_POSITIVE_RATE = 0.5

USER = f"{f.USER_ID}_index"
ITEM = f"{f.ITEM_ID}_index"
CATEGORY = f"{f.CATEGORY}_index"
HISTORY_ITEM, HISTORY_CATEGORY = f.HISTORY_PREFIX + ITEM, f.HISTORY_PREFIX + CATEGORY


@dataclasses.dataclass(frozen=True)
class Form:
    """One of ours.

    Attributes:
      interest: see `RankerConfig`.
      attention: likewise.
      auxiliary: whether the extractor has its loss.
    """

    interest: Interest = "augru"
    attention: AttentionForm = "mlp"
    auxiliary: bool = False


DIN, DIEN, DIEN_AUX = "winnow din", "winnow dien", "winnow dien+aux"
BILINEAR = ", bilinear"  # the paper's attention; the others have the MLP of its code
FORMS = {
    DIN: Form(interest="din"),
    DIEN: Form(),
    DIEN_AUX: Form(auxiliary=True),
    DIN + BILINEAR: Form(interest="din", attention="bilinear"),
    DIEN + BILINEAR: Form(attention="bilinear"),
    DIEN_AUX + BILINEAR: Form(attention="bilinear", auxiliary=True),
}
SHARED = ", shared"  # the same model, `SHARED_ROWS` to a history


def make_features(sizes: Sizes) -> tuple[EncodedFeature, ...]:
    """What the Transform graph would have made: a user, an item, its category, and the history of both."""

    def make(name: str, size: int, role: f.Role) -> EncodedFeature:
        table = name.removeprefix(f.HISTORY_PREFIX)
        return EncodedFeature(name, table, size, role, name, is_list=name != table)

    return (
        make(USER, sizes.users, f.Role.QUERY),
        make(HISTORY_ITEM, sizes.items, f.Role.QUERY),
        make(HISTORY_CATEGORY, sizes.categories, f.Role.QUERY),
        make(ITEM, sizes.items, f.Role.CANDIDATE),
        make(CATEGORY, sizes.categories, f.Role.CANDIDATE),
    )


def make_config(sizes: Sizes, form: Form) -> RankerConfig:
    """The configuration; without dropout, which no peer is given."""
    return RankerConfig(
        interest=form.interest,
        attention=form.attention,
        embedding_dim=sizes.embedding_dim,
        units=sizes.units,
        attention_dims=sizes.attention_dims,
        head_dims=sizes.head_dims,
        activation="dice",
        auxiliary_weight=float(form.auxiliary),
        num_negatives=1,
        dropout=0.0,
        id_dropout=0.0,
        query_dropout=0.0,
        event_dropout=0.0,
    )


def make_batch(columns: Mapping[str, np.ndarray], number: int, row_share: int = 1) -> Batch:
    """A batch as the input pipeline makes it, with one negative for each event.

    Args:
      columns: see `data.make_columns`, without `item_categories`.
      number: of the batch.
      row_share: rows of a request. Where it is more than 1, they have the history of the first, and rows
        that fill no request are left out.
    """
    num_requests = len(columns["user"][number]) // row_share
    batch = {name: values[number][: num_requests * row_share] for name, values in columns.items()}
    query = {
        USER: batch["user"],
        HISTORY_ITEM: batch["history_item"],
        HISTORY_CATEGORY: batch["history_category"],
        NEGATIVE_PREFIX + HISTORY_ITEM: batch["negative_item"][:, :, np.newaxis],
        NEGATIVE_PREFIX + HISTORY_CATEGORY: batch["negative_category"][:, :, np.newaxis],
    }
    rows = {
        ITEM: batch["item"],
        CATEGORY: batch["category"],
        f.CLICKED: batch["clicked"],
        f.CONVERTED: np.zeros_like(batch["clicked"]),
    }
    parts = {
        QUERY: {name: values[::row_share] for name, values in query.items()},
        ROWS: {name: values.reshape(num_requests, row_share) for name, values in rows.items()},
        IS_ROW: np.ones((num_requests, row_share), bool),
    }
    return tf.nest.map_structure(tf.constant, parts)


class TrainingStep:
    """Forward, backward and the optimiser's update of one form, traced once for batches of any shape.

    Args:
      sizes: of the model.
      form: of the model.
      batch: any one, which tells what batches hold.
    """

    def __init__(self, sizes: Sizes, form: Form, batch: Batch):
        config = make_config(sizes, form)
        tf.keras.utils.set_random_seed(config.seed)
        # The model is built of the features alone.
        nothing = tf.data.Dataset.from_tensors(batch)
        self._training = build_training(
            config, TrainingData(make_features(sizes), nothing, nothing, 1, 1, [_POSITIVE_RATE])
        )
        # The trainer's, but for the rate's decay.
        self._training.compile(
            optimizer=tf.keras.optimizers.AdamW(config.learning_rate, weight_decay=config.weight_decay)
        )
        self._training.compute_batch_loss(flatten(batch))  # creates the variables
        self._training.optimizer.build(self._training.trainable_variables)
        spec = tf.nest.map_structure(lambda x: tf.TensorSpec([None] * x.shape.rank, x.dtype), batch)
        self._step = tf.function(self._training.train_step, input_signature=[spec])

    @property
    def features(self) -> Any:
        """The ranker's, see `select_features`."""
        return self._training.scorer.features

    def __call__(self, batch: Batch) -> float:
        """Trains on a batch, and returns once that is done: the mean loss so far."""
        return float(self._step(batch)["loss"])

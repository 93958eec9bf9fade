"""The two towers (TensorFlow Recommenders)."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from schemas import features as f
from trainers.layers.feature_embedding import PADDING, EmbeddingTables
from trainers.layers.two_towers import CandidateTower, HistoryShape, QueryTower
from trainers.losses.sampled_softmax import compute_sampling_probability, make_score_mask
from trainers.preprocessing import EncodedFeature
from trainers.retrieval.config import RetrievalConfig, TowersConfig

USER_INDEX = f"{f.USER_ID}_index"
ITEM_INDEX = f"{f.ITEM_ID}_index"
HISTORY_ITEM_INDEX = f"{f.HISTORY_ITEM_ID}_index"


class RetrievalModel(tfrs.Model):
    """Two towers under a sampled softmax with logQ correction.

    Args:
      features: what the Transform graph made; or `item_to_item.anchor_features`.
      catalogue: the training items' encoded features, row i holding item index i + 1; the uniform
        negatives are drawn from it.
      positive_share: [1 + number of training items] each item index' share of the training positives.
      config: the model's configuration.

    Raises:
      ValueError: if the configuration leaves a tower without a feature.
    """

    def __init__(
        self,
        features: Sequence[EncodedFeature],
        catalogue: Mapping[str, np.ndarray],
        positive_share: np.ndarray,
        config: TowersConfig,
    ):
        super().__init__()
        self.config = config
        enabled = [x for x in features if x.group not in config.disabled_groups]
        self.query_features = [x for x in enabled if x.role is f.Role.QUERY]
        self.candidate_features = [x for x in enabled if x.role is f.Role.CANDIDATE]
        for side, left in (("query", self.query_features), ("candidate", self.candidate_features)):
            if not left:
                raise ValueError(
                    f"disabled_groups {list(config.disabled_groups)} leave the {side} tower no feature; "
                    "leave at least one group of its features on"
                )
        sizes = {x.table: x.size for x in (*self.query_features, *self.candidate_features) if x.size}
        self.tables = EmbeddingTables(sizes, config.embedding_dim, name="tables")
        history = (
            HistoryShape(config.num_history_heads, config.event_dropout)
            if isinstance(config, RetrievalConfig)
            else None
        )
        self.query_tower = QueryTower(self.query_features, self.tables, config, history, config.normalize)
        self.candidate_tower = CandidateTower(self.candidate_features, self.tables, config, config.normalize)
        self._catalogue = {name: tf.constant(values) for name, values in catalogue.items()}
        self._positive_share = tf.constant(positive_share, tf.float32)
        self._task = tfrs.tasks.Retrieval(
            # TFRS sums by default; a mean does not change with the batch size.
            loss=tf.keras.losses.CategoricalCrossentropy(
                from_logits=True, reduction=tf.keras.losses.Reduction.SUM_OVER_BATCH_SIZE
            ),
            # What TFRS logs as `loss` is the last batch's; this is the epoch's mean.
            loss_metrics=[tf.keras.metrics.Mean("mean_loss")],
            temperature=config.temperature,
            remove_accidental_hits=True,
        )
        # TFRS' task needs AutoGraph; nothing else of a step does, and looking through Keras takes long.
        self._compute_task_loss = tf.autograph.to_graph(tfrs.tasks.Retrieval.call, recursive=False)

    @tf.autograph.experimental.do_not_convert
    def train_step(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Keras' hook: TFRS' step."""
        return super().train_step(inputs)

    def compute_loss(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """The batch's mean loss (TFRS' hook).

        Args:
          inputs: encoded features of positives, [B] or [B, n] each.
          training: whether dropout is on.
        """
        queries = self.query_tower(inputs, training=training)
        candidate_ids = inputs[ITEM_INDEX]
        candidates = {x.name: inputs[x.name] for x in self.candidate_features}
        num_in_batch = tf.shape(candidate_ids)[0]
        num_items = self._catalogue[ITEM_INDEX].shape[0]
        if self.config.num_uniform_negatives:
            drawn = tf.random.uniform([self.config.num_uniform_negatives], 0, num_items, tf.int64)
            extra = {name: tf.gather(values, drawn) for name, values in self._catalogue.items()}
            candidate_ids = tf.concat([candidate_ids, extra[ITEM_INDEX]], axis=0)
            candidates = {name: _concat_padded(values, extra[name]) for name, values in candidates.items()}
        vectors = self.candidate_tower(candidates, training=training)
        return self._compute_task_loss(
            self._task,
            queries,
            vectors,
            candidate_ids=candidate_ids,
            candidate_sampling_probability=compute_sampling_probability(
                tf.gather(self._positive_share, candidate_ids),
                num_in_batch,
                self.config.num_uniform_negatives,
                num_items,
            ),
            score_mask=make_score_mask(
                candidate_ids, inputs[USER_INDEX], inputs[HISTORY_ITEM_INDEX], num_in_batch
            )
            if self.config.mask_clicked
            else None,
            compute_metrics=False,
        )


def _concat_padded(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Stacks two batches; lists are padded to the longer of both."""
    if first.shape.rank == 1:
        return tf.concat([first, second], axis=0)
    width = tf.maximum(tf.shape(first)[1], tf.shape(second)[1])
    padded = [
        tf.pad(x, [[0, 0], [0, width - tf.shape(x)[1]]], constant_values=PADDING) for x in (first, second)
    ]
    return tf.concat(padded, axis=0)

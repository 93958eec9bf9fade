"""Training of the two towers, in a fixed order: data, model, optimiser, loop."""

import dataclasses
import os
import tempfile
from collections.abc import Callable, Sequence

import tensorflow as tf
import tensorflow_transform as tft

from schemas import features as f
from trainers.layers.feature_embedding import table_dim
from trainers.preprocessing import EncodedFeature, encoded_features
from trainers.retrieval import data, item_to_item
from trainers.retrieval.config import ItemToItemConfig, TowersConfig
from trainers.retrieval.model import ITEM_INDEX, RetrievalModel
from trainers.retrieval.selection import Selection
from trainers.retrieval.spectral import compute_item_factors
from trainers.weight_average import Averaging


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """A trained model and how it got there.

    Attributes:
      model: with the weights of the best epoch.
      history: per epoch: loss and `selection.METRIC`.
      best_epoch: from 0, see `selection.Selection`; the last one where there was nothing to choose by.
    """

    model: RetrievalModel
    history: dict[str, list[float]]
    best_epoch: int


def train_and_evaluate(
    config: TowersConfig,
    train_patterns: Sequence[str],
    eval_patterns: Sequence[str],
    transform_output: tft.TFTransformOutput,
    *,
    log_dir: str,
    warm_start_dir: str | None = None,
) -> TrainingResult:
    """Trains until the recall on the evaluation split stops rising, and keeps the best epoch.

    Args:
      config: the model's configuration; its class says what the query is.
      train_patterns: transformed training examples.
      eval_patterns: transformed evaluation examples; for the choice of the epoch alone.
      transform_output: the Transform graph they were made with.
      log_dir: for TensorBoard.
      warm_start_dir: an exported model to start from, see `warm_start.load_weights`.

    Raises:
      NoPositivesError: if there is nothing to learn from.
    """
    features = encoded_features(transform_output, f.Role.QUERY, f.Role.CANDIDATE)
    spec = transform_output.transformed_feature_spec()
    if isinstance(config, ItemToItemConfig):
        read = item_to_item.row_features(features)
        train_rows, eval_rows = (
            item_to_item.mark_pairs(data.make_rows(x, spec, read), features, config.session_gap_seconds)
            for x in (train_patterns, eval_patterns)
        )
        features = item_to_item.anchor_features(features)
    else:
        train_rows, eval_rows = (data.make_rows(x, spec, features) for x in (train_patterns, eval_patterns))

    def warm_start(model: RetrievalModel) -> None:
        if warm_start_dir:
            from trainers.retrieval.warm_start import load_weights

            load_weights(model, warm_start_dir, transform_output)

    return train_towers(config, features, train_rows, eval_rows, log_dir=log_dir, start=warm_start)


def train_towers(
    config: TowersConfig,
    features: Sequence[EncodedFeature],
    train_rows: tf.data.Dataset,
    eval_rows: tf.data.Dataset | None,
    *,
    log_dir: str | None = None,
    start: Callable[[RetrievalModel], None] | None = None,
) -> TrainingResult:
    """Trains on rows as `data.make_rows` makes them; see `train_and_evaluate`.

    Args:
      config: the model's configuration.
      features: what the rows hold.
      train_rows: for training.
      eval_rows: for the choice of the epoch; None keeps the last epoch's weights.
      log_dir: for TensorBoard; None logs nothing.
      start: may give the model, its variables created, other weights to start from.

    Raises:
      NoPositivesError: if there is nothing to learn from.
    """
    tf.keras.utils.set_random_seed(config.seed)
    items = data.collect_items(train_rows, features)
    model = RetrievalModel(features, items.catalogue, items.positive_share, config)
    steps = max(items.num_positives // config.batch_size, 1) * config.max_epochs
    model.compile(
        optimizer=tf.keras.optimizers.AdamW(
            tf.keras.optimizers.schedules.CosineDecay(config.learning_rate, steps, alpha=0.1),
            weight_decay=config.weight_decay,
        )
    )
    with tempfile.TemporaryDirectory() as cache:
        positives = data.select_positives(train_rows)
        batches = data.make_training_batches(
            positives, config.batch_size, os.path.join(cache, "positives"), config.seed
        )
        # Creates the variables; not from the cached batches, whose file a partial pass leaves locked.
        model.compute_loss(next(iter(positives)))
        model.optimizer.build(model.trainable_variables)  # a step that makes variables is traced twice
        if config.spectral_start:
            columns = table_dim(model.tables.sizes[ITEM_INDEX], config.embedding_dim)
            factors = compute_item_factors(items.clicks, columns, config.seed)
            model.tables.start_from(ITEM_INDEX, factors * config.spectral_start)
        if start:
            start(model)
        averaging: Averaging
        if eval_rows is None:
            averaging = Averaging(config.weight_averaging)
        else:
            # The gate asks for no repeat either; a model chosen by them would know the past by heart.
            eval_positives = data.leave_out_repeats(data.select_positives(eval_rows))
            averaging = Selection(
                eval_positives.cache(os.path.join(cache, "eval")),
                items.catalogue,
                config.patience_epochs,
                config.weight_averaging,
            )
        logs = [tf.keras.callbacks.TensorBoard(log_dir, write_graph=False)] if log_dir else []
        history = model.fit(batches, epochs=config.max_epochs, verbose=0, callbacks=[averaging, *logs])
    model.set_weights(averaging.best_weights)
    return TrainingResult(model, history.history, averaging.best_epoch)

"""Training of a ranker, in a fixed order: data, model, optimiser, loop."""

import dataclasses
import functools

import tensorflow as tf

from trainers.losses.distillation_config import DistillationConfig, DistillationLossConfig
from trainers.ranking.config import RankerConfig
from trainers.ranking.data import make_training_batches
from trainers.ranking.features import select_features
from trainers.ranking.model import Ranker
from trainers.ranking.negatives import count_clicks
from trainers.scorers.data import TrainingData
from trainers.scorers.fitting import TrainingResult, find_strategy, fit
from trainers.scorers.learning import Distillation, ScorerTraining
from trainers.scorers.teaching import FrozenTeacher, teach

_ROCKET = DistillationConfig(mode="joint", weight=0.5, losses=(DistillationLossConfig("rocket_launching"),))


def train_ranker(
    config: RankerConfig,
    training: TrainingData,
    log_dir: str | None = None,
    *,
    teacher: FrozenTeacher | None = None,
    distillation: DistillationConfig | None = None,
) -> TrainingResult:
    """Trains a ranker: from the labels, from a frozen teacher too, or with a booster that is thrown away.

    Args:
      config: form, widths and training.
      training: the rows; where there is a teacher, of days that it has not learnt from.
      log_dir: for TensorBoard; None logs nothing.
      teacher: what is asked; None for none.
      distillation: what is learnt from the teacher; needed where there is one.

    Raises:
      TeacherError: if the teacher does not fit the ranker.
      ValueError: see `features.select_features`; or if there are both a teacher and a booster.
    """
    tf.keras.utils.set_random_seed(config.seed)
    features = select_features(training.features, config)
    sampler = None
    if config.has_auxiliary_loss:
        sampler = count_clicks(training.train, features, config.num_negatives)
    make_batches = functools.partial(make_training_batches, features=features, sampler=sampler)
    with find_strategy().scope():
        model = build_training(config, training, teacher, distillation)
    if teacher is not None:
        training = teach(training, teacher, config.tasks, features.everything)
    return fit(model, config, training, log_dir, make_batches)


def build_training(
    config: RankerConfig,
    training: TrainingData,
    teacher: FrozenTeacher | None = None,
    distillation: DistillationConfig | None = None,
) -> ScorerTraining:
    """What is fitted; see `train_ranker`.

    With a booster it is Rocket Launching (Zhou et al. 2018, arXiv 1708.04106): a light ranker and a larger
    one, over the same embeddings, each under the labels, and the light one drawn to the other's logits, of
    which the larger one learns nothing.
    """
    rates = training.positive_rates[: len(config.tasks)]
    if config.booster_units is None:
        ranker = Ranker(training.features, config, rates)
        if teacher is None or distillation is None:
            return ScorerTraining(ranker)
        return Distillation(
            ranker,
            _keep_tasks(distillation, len(config.tasks)),
            soft_on_every_row=teacher.knows_every_row(training.features),
        )
    if teacher is not None:
        raise ValueError(
            "ranking.booster_units and a teacher: a ranker learns from one of them; leave booster_units out"
        )
    booster = Ranker(training.features, dataclasses.replace(config, units=config.booster_units), rates)
    return Distillation(
        Ranker(training.features, config, rates, booster.tables),
        _ROCKET,
        soft_on_every_row=True,
        teacher=booster,
    )


def _keep_tasks(distillation: DistillationConfig, num_tasks: int) -> DistillationConfig:
    """What is learnt of the first tasks: pre-ranking's student, whose setting it is, may have more."""
    losses = tuple(
        dataclasses.replace(x, soft_weights=x.soft_weights and x.soft_weights[:num_tasks])
        for x in distillation.losses
    )
    return dataclasses.replace(distillation, losses=losses)

"""How scorers of a request's rows are trained. TensorFlow is not imported here."""

import dataclasses

from trainers.config import Decay, Fraction, Positive, Rate


@dataclasses.dataclass(frozen=True)
class FittingConfig:
    """Batches, optimiser and when to stop."""

    batch_size: Positive = 1024  # shown rows, of whole requests
    max_epochs: Positive = 4
    patience_epochs: Positive = 1  # without a better log loss on the evaluation split
    learning_rate: Rate = 2e-3
    weight_decay: Decay = 0.5  # decoupled (AdamW), so times the learning rate
    weight_averaging: Fraction = 0.99  # momentum of the weights' moving average, which is what is kept
    seed: int = 1

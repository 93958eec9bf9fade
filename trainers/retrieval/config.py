"""What of the retrieval models can be chosen."""

import dataclasses
from typing import Annotated

from pydantic import AfterValidator, Field

from trainers.config import Decay, Fraction, Positive, Rate, TowersShape


def _check_power_of_two(value: int) -> int:
    if value.bit_count() != 1:
        raise ValueError(f"expected a power of two, such as {1 << (value.bit_length() - 1)}")
    return value


PowerOfTwo = Annotated[Positive, AfterValidator(_check_power_of_two)]


@dataclasses.dataclass(frozen=True)
class TowersConfig(TowersShape):
    """Two towers and their training, whatever the query is."""

    normalize: bool = True  # unit vectors; the score is the cosine over the temperature

    # Start of the item ids' embeddings: the RMS of their spectral start, see `spectral`; 0 starts at random
    spectral_start: Annotated[float, Field(ge=0.0)] = 0.0

    # Loss
    temperature: Annotated[float, Field(gt=0)] = 0.06
    num_uniform_negatives: Annotated[int, Field(ge=0)] = 1024  # besides those in the batch
    # Whether what a user clicked is no negative of the user's rows. Where nobody clicks an item twice, False
    # lets the model learn that: the seen items get low scores, without being removed
    mask_clicked: bool = True

    # Training
    batch_size: Positive = 256
    max_epochs: Positive = 9
    patience_epochs: Positive = 3  # without a better recall on the evaluation split
    learning_rate: Rate = 4e-3
    weight_decay: Decay = 0.6  # decoupled (AdamW), so times the learning rate
    weight_averaging: Fraction = 0.995  # momentum of the weights' moving average, which is what is kept
    seed: int = 1


@dataclasses.dataclass(frozen=True)
class RetrievalConfig(TowersConfig):
    """User to item: the query is a user, the context and the history."""

    num_history_heads: Positive = 4
    event_dropout: Fraction = 0.3  # share of the history's events left out
    warm_start: bool = False  # start from the weights of what is live


@dataclasses.dataclass(frozen=True)
class ItemToItemConfig(TowersConfig):
    """Item to item: the query is the item clicked before, in the same session."""

    # Pairs are fewer than clicks and say less each: what a large model makes of them is learnt by heart.
    temperature: Annotated[float, Field(gt=0)] = 0.1
    learning_rate: Rate = 2e-3
    dropout: Fraction = 0.5
    query_dropout: Fraction = 0.3  # of the clicked item's id and values
    session_gap_seconds: PowerOfTwo = 65_536  # a click this long after the one before starts another session

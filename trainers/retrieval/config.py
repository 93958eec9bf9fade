"""What of the retrieval model can be chosen."""

import dataclasses
from typing import Annotated

from pydantic import Field

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[int, Field(gt=0)]


@dataclasses.dataclass(frozen=True)
class RetrievalConfig:
    """The two towers and their training."""

    # Features
    disabled_groups: tuple[str, ...] = ()  # groups of the schema that the towers shall not see

    # Architecture
    embedding_dim: Positive = 64
    hidden_dims: tuple[Positive, ...] = ()  # of both towers; a linear tower overfits least, measure first
    output_dim: Positive = 64
    num_history_heads: Positive = 4
    normalize: bool = True  # unit vectors; the score is the cosine over the temperature

    # Start of the item ids' embeddings: the RMS of their spectral start, see `spectral`; 0 starts at random
    spectral_start: Annotated[float, Field(ge=0.0)] = 0.0

    # Loss
    temperature: Annotated[float, Field(gt=0)] = 0.06
    num_uniform_negatives: Annotated[int, Field(ge=0)] = 1024  # besides those in the batch

    # Training
    batch_size: Positive = 256
    max_epochs: Positive = 9
    patience_epochs: Positive = 3  # without a better recall on the evaluation split
    learning_rate: Annotated[float, Field(gt=0)] = 4e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.6  # decoupled (AdamW), so times the learning rate
    weight_averaging: Fraction = 0.995  # momentum of the weights' moving average, which is what is kept
    dropout: Fraction = 0.3
    id_dropout: Fraction = 0.1  # share of the items' ids and values trained as unknown
    query_dropout: Fraction = 0.5  # the same of the user's and the context's: most users will be new
    event_dropout: Fraction = 0.3  # share of the history's events left out
    warm_start: bool = False  # start from the weights of what is live
    seed: int = 1

"""What of the ranking model can be chosen."""

import dataclasses
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from trainers.config import Fraction, Positive
from trainers.layers.forms import AttentionForm
from trainers.scorers.config import FittingConfig

Interest = Literal["none", "din", "gru", "aigru", "agru", "augru", "augru_official"]


@dataclasses.dataclass(frozen=True)
class RankerConfig(FittingConfig):
    """The ranking model: DIEN, or a simpler one to compare it with."""

    tasks: ClassVar[tuple[str, ...]] = ("clicked",)

    # Features
    disabled_groups: tuple[str, ...] = ()  # groups of the schema that it shall not see

    # Architecture; units and head as in the paper, which has embeddings of 18
    # What is made of the history: nothing, its mean under attention (DIN), or one of DIEN's evolutions
    interest: Interest = "augru"
    attention: AttentionForm = "bilinear"
    embedding_dim: Positive = 64
    units: Positive = 36  # of both recurrences
    attention_dims: tuple[Positive, ...] = (80, 40)  # of the attention `mlp`
    product_dim: Positive = 64  # of the product of what is asked and what is offered
    head_dims: tuple[Positive, ...] = (200, 80)
    activation: Literal["dice", "prelu"] = "prelu"  # of the head; dropout spoils what Dice keeps of batches
    # Units of a larger ranker that is trained along and thrown away (Rocket Launching); none where left out
    booster_units: Positive | None = None

    # The extractor's auxiliary loss
    auxiliary_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1  # α; 0 is without
    num_negatives: Positive = 4  # items, not clicked, for each click

    # Training
    batch_size: Positive = 512

    # Dropout
    dropout: Fraction = 0.2  # of the head's inputs and hidden units
    id_dropout: Fraction = 0.1  # share of the items' ids and values trained as unknown
    query_dropout: Fraction = 0.3  # the same of the user's and the context's
    event_dropout: Fraction = 0.1  # share of the history's events left out

    depth: Positive = 50  # candidates the funnel asks ranking for

    @property
    def has_auxiliary_loss(self) -> bool:
        """Whether there is a recurrence over the history that the auxiliary loss is for, and it counts."""
        return self.interest not in ("none", "din") and self.auxiliary_weight > 0

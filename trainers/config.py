"""Settings that stages have in common. TensorFlow is not imported here: a bad file is refused at once."""

import dataclasses
from typing import Annotated

from pydantic import Field

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


@dataclasses.dataclass(frozen=True)
class TowersShape:
    """Widths and rates of two towers."""

    # Features
    disabled_groups: tuple[str, ...] = ()  # groups of the schema that the towers shall not see

    # Architecture
    embedding_dim: Positive = 64
    hidden_dims: tuple[Positive, ...] = ()  # of both towers; a linear tower overfits least, measure first
    output_dim: Positive = 64

    # Dropout
    dropout: Fraction = 0.3
    id_dropout: Fraction = 0.1  # share of the items' ids and values trained as unknown
    query_dropout: Fraction = 0.5  # the same of the user's and the context's: most users will be new

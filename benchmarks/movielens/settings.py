"""What of Winnow's model is chosen for a protocol."""

import dataclasses

from trainers.retrieval.config import RetrievalConfig


@dataclasses.dataclass(frozen=True)
class Settings:
    """Chosen on the validation part.

    Attributes:
      towers: the model and its training.
      history_size: ratings that a training row knows.
      query_history_size: ratings, the newest, that a query knows.
    """

    towers: RetrievalConfig
    history_size: int
    query_history_size: int

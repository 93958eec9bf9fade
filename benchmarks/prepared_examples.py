"""Where the pipeline's nodes up to Transform wrote what benchmarks read."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class PreparedExamples:
    """What the pipeline's nodes up to Transform wrote.

    Attributes:
      events_dir: the event log they were made from; for the oracle of a simulated one alone.
      impressions_uri: raw impression examples with the splits train, eval and test.
      item_patterns: raw item examples.
      transformed_uri: transformed impression examples with the same splits.
      transform_graph_uri: the graph that made them.
    """

    events_dir: Path
    impressions_uri: str
    item_patterns: Sequence[str]
    transformed_uri: str
    transform_graph_uri: str

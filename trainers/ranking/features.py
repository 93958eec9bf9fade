"""Who is who among the features of a ranker."""

import dataclasses
from collections.abc import Sequence

from schemas import features as f
from trainers.preprocessing import EncodedFeature
from trainers.ranking.config import RankerConfig

NEGATIVE_PREFIX = "negative_"  # of a history's column: the same column of items that were not clicked
ITEM_TABLE = f"{f.ITEM_ID}_index"


@dataclasses.dataclass(frozen=True)
class RankerFeatures:
    """The parts that a ranker's inputs have.

    Attributes:
      profile: of user and context, one value each.
      behaviour: columns of the history that say what an item is; each shares its table with one of `target`.
      target: of the candidate, in the order of `behaviour`.
      circumstances: the history's other columns, as how long ago an event was.
      candidate: all of the candidate, those of `target` among them.
    """

    profile: tuple[EncodedFeature, ...]
    behaviour: tuple[EncodedFeature, ...]
    target: tuple[EncodedFeature, ...]
    circumstances: tuple[EncodedFeature, ...]
    candidate: tuple[EncodedFeature, ...]

    @property
    def history(self) -> tuple[EncodedFeature, ...]:
        """All columns of the history."""
        return (*self.behaviour, *self.circumstances)

    @property
    def everything(self) -> tuple[EncodedFeature, ...]:
        """All features, each once."""
        return (*self.profile, *self.history, *self.candidate)


def select_features(features: Sequence[EncodedFeature], config: RankerConfig) -> RankerFeatures:
    """What a ranker of this configuration sees of what the Transform graph made.

    Raises:
      ValueError: if a side has no feature, or the history none that the configuration needs.
    """
    seen = [x for x in features if x.group not in config.disabled_groups]
    query = [x for x in seen if x.role is f.Role.QUERY]
    candidate = [x for x in seen if x.role is f.Role.CANDIDATE]
    targets = {x.table: x for x in candidate if x.size and not x.is_list}
    history = [x for x in query if x.is_list] if config.interest != "none" else []
    behaviour = [x for x in history if x.table in targets]
    if not candidate or not (behaviour or any(not x.is_list for x in query)):
        raise ValueError(
            f"ranking.disabled_groups {list(config.disabled_groups)} leave one side no feature; leave at "
            "least one group of user and context and one of items on"
        )
    if config.interest != "none" and not behaviour:
        raise ValueError(
            f"ranking.interest {config.interest!r} needs a history of what items have, such as item ids or "
            f"categories, and ranking.disabled_groups {list(config.disabled_groups)} leave none: take the "
            "history's and the items' groups out, or set ranking.interest to 'none'"
        )
    if config.has_auxiliary_loss and not any(x.table == ITEM_TABLE for x in behaviour):
        raise ValueError(
            "ranking.auxiliary_weight needs item ids in the history, to draw items that are not in it: leave "
            "the groups of history and item ids on, or set it to 0"
        )
    return RankerFeatures(
        profile=tuple(x for x in query if not x.is_list),
        behaviour=tuple(behaviour),
        target=tuple(targets[x.table] for x in behaviour),
        circumstances=tuple(x for x in history if x.table not in targets),
        candidate=tuple(candidate),
    )

"""The rankers that the study trains. TensorFlow is not imported here."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from trainers.ranking.config import RankerConfig

NONE = "none"
DIN = "din"
DIEN = "augru+aux"
COMPARED = (NONE, DIN, "augru", DIEN)  # enough to see whether evolution is worth anything
_FORMS = ("gru", "aigru", "agru", "augru")
_AUXILIARY = "+aux"


@dataclasses.dataclass(frozen=True)
class RankerSpec:
    """One row of the table.

    Attributes:
      name: what the row is called.
      config: what is trained.
      note: what a reader must know to read the row.
    """

    name: str
    config: RankerConfig
    note: str = ""


def list_rankers(config: RankerConfig, *, full: bool) -> list[RankerSpec]:
    """The table's rows: no history, DIN, DIEN's forms without and with the auxiliary loss.

    Args:
      config: of every row, but for what the row is named after.
      full: whether more of DIEN's choices are trained.
    """
    weight = config.auxiliary_weight or RankerConfig.auxiliary_weight

    def make(name: str, /, note: str = "", **changes: Any) -> RankerSpec:
        changed = dataclasses.replace(config, **{"auxiliary_weight": 0.0, "booster_units": None, **changes})
        return RankerSpec(name, changed, note)

    rows = [
        make(NONE, interest="none"),
        make(DIN, interest="din"),
        *(make(form, interest=form) for form in _FORMS),
        *(make(form + _AUXILIARY, interest=form, auxiliary_weight=weight) for form in _FORMS),
    ]
    if full:
        dien: dict[str, Any] = {"interest": "augru", "auxiliary_weight": weight}
        official: dict[str, Any] = {**dien, "interest": "augru_official"}
        others: list[dict[str, Any]] = [
            *({"attention": form} for form in ("bilinear", "mlp") if form != config.attention),
            *({"activation": name} for name in ("dice", "prelu") if name != config.activation),
            *({"num_negatives": number} for number in (1, 4) if number != config.num_negatives),
        ]
        light: dict[str, Any] = {"interest": "augru", "units": 32}
        rows += [
            make(f"augru_official{_AUXILIARY}", "gates the old state, as the authors' code does", **official),
            *(make(f"{DIEN}, {_describe(change)}", **dien, **change) for change in others),
            make("augru, 108 units", interest="augru", units=108),
            make("augru, 32 units", **light),
            make("augru, 32 units, booster", "Rocket Launching", **light, booster_units=108),
        ]
    return rows


def _describe(change: Mapping[str, Any]) -> str:
    """One setting other than the rest's."""
    ((name, value),) = change.items()
    return f"{value} negative{'s' * (value > 1)}" if name == "num_negatives" else str(value)

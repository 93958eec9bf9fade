"""What kind of marketplace is simulated: its size, its seed and which effects are planted."""

import dataclasses
import datetime as dt
import math
from typing import Any

FAVOURITE_SHOPS = 24  # per user
# Items are published up to half a year before the first day, and no time of an event log is before 1970.
START_DATES = (dt.date(1971, 1, 1), dt.date(2099, 12, 31))

EFFECTS = (
    "interest",
    "drift",
    "taste",
    "shop_affinity",
    "long_tail",
    "cold_start",
    "position_bias",
    "page_context",
    "conversion_match",
    "dwell_signal",
)


class MarketplaceConfigError(ValueError):
    """A marketplace that cannot be simulated.

    Attributes:
      field: the field of the config that is wrong.
      problem: its value and what was expected.
    """

    def __init__(self, field: str, value: object, expected: str):
        self.field = field
        self.problem = f"is {value!r}, expected {expected}"
        super().__init__(f"marketplace config: {field} {self.problem}")


@dataclasses.dataclass(frozen=True)
class MarketplaceConfig:
    """Size, seed and planted effects of a simulated marketplace.

    The defaults give about 220,000 shown rows (22,000 pages) over 14 days. `docs/marketplace.md` has the
    equation behind each switch.

    Attributes:
      num_users: users over the whole log; about 30% of them join while it runs.
      num_items: items over the whole log; 25% of them are published while it runs.
      num_shops: shops; user-shop affinity has this rank, which no small embedding holds.
      num_categories: item categories.
      num_brands: brands.
      num_days: days of the log (UTC).
      requests_per_user_day: mean requests of a user on a day after joining; a few users make many.
      num_candidates: candidates drawn per request; duplicates are dropped, so slightly fewer remain.
      page_size: items shown per request.
      start_date: the first day, of the years 1971 to 2099.
      seed: the same seed and sizes give the same log.
      interest: users prefer some categories.
      drift: on top of it, a focus category that jumps every few days; off, the first focus stays.
      taste: latent user taste times latent item style, which collaborative filtering can find.
      shop_affinity: each user has a few favourite shops for the whole log.
      long_tail: few items are exposed often, and they are the better ones.
      cold_start: items are published, and users join, while the log runs; new items draw more clicks.
      position_bias: lower positions are examined less.
      page_context: clicks depend on the other items of the page.
      conversion_match: conversions depend on how well the item suits the user.
      dwell_signal: dwell time depends on suitability and on conversion.
    """

    num_users: int = 1_000
    num_items: int = 8_000
    num_shops: int = 2_000
    num_categories: int = 20
    num_brands: int = 200
    num_days: int = 14
    requests_per_user_day: float = 1.8
    num_candidates: int = 50
    page_size: int = 10
    start_date: dt.date = dt.date(2024, 1, 1)
    seed: int = 0

    interest: bool = True
    drift: bool = True
    taste: bool = True
    shop_affinity: bool = True
    long_tail: bool = True
    cold_start: bool = True
    position_bias: bool = True
    page_context: bool = True
    conversion_match: bool = True
    dwell_signal: bool = True

    def __post_init__(self) -> None:
        """Refuses what cannot be simulated."""
        if isinstance(self.start_date, str):  # from JSON or YAML
            object.__setattr__(self, "start_date", _parse_date(self.start_date))
        if type(self.start_date) is not dt.date:
            raise MarketplaceConfigError("start_date", self.start_date, "a date, YYYY-MM-DD")
        first, last = START_DATES
        if not first <= self.start_date <= last:
            raise MarketplaceConfigError(
                "start_date", self.start_date.isoformat(), f"a date from {first} to {last}"
            )
        for name, (low, high) in self._ranges().items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise MarketplaceConfigError(name, value, f"a whole number from {low:,} to {high:,}")
        rate = self.requests_per_user_day
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < math.inf:
            raise MarketplaceConfigError("requests_per_user_day", rate, "a number above 0")
        for name in EFFECTS:
            if not isinstance(getattr(self, name), bool):
                raise MarketplaceConfigError(name, getattr(self, name), "true or false")

    def _ranges(self) -> dict[str, tuple[int, int]]:
        """The allowed values of each whole number, smallest and largest."""
        page_size = self.page_size if isinstance(self.page_size, int) else 1
        num_candidates = self.num_candidates if isinstance(self.num_candidates, int) else 1
        return {
            "page_size": (2, 100),
            "num_candidates": (page_size, 1_000),
            "num_users": (1, 10_000_000),
            "num_items": (2 * num_candidates, 10_000_000),  # enough are published on the first day
            "num_shops": (2 * FAVOURITE_SHOPS, 1_000_000),
            "num_categories": (2, 200),
            "num_brands": (1, 100_000),
            "num_days": (1, 1_000),
            "seed": (0, 2**63 - 1),
        }

    def to_json(self) -> dict[str, Any]:
        """The config as JSON values; `MarketplaceConfig(**value)` is its inverse."""
        return dataclasses.asdict(self) | {"start_date": self.start_date.isoformat()}


def _parse_date(value: str) -> dt.date:
    try:
        return dt.date.fromisoformat(value)
    except ValueError:
        raise MarketplaceConfigError("start_date", value, "a date, YYYY-MM-DD") from None

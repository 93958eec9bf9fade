"""The logging policy: which items are candidates, which are shown, and with what probability.

Every candidate slot of a request draws from one source with replacement, so that the probability of an item
is exact; a source that is empty for a user draws uniformly instead. The page is the top of a noisy score.
Shapes: R requests of one day, M candidate slots, N page positions, I items, G groups.
"""

import dataclasses

import numpy as np

from sources.marketplace.behaviour import compute_examination, compute_interest
from sources.marketplace.catalogue import Catalogue
from sources.marketplace.config import FAVOURITE_SHOPS, MarketplaceConfig
from sources.marketplace.sampling import draw_below, draw_from_rows, softmax
from sources.marketplace.world import World

FRESH_DAYS = 3  # an item is fresh for so many days after the policy learns of it
INTEREST_SHARPNESS = 0.6
STYLE_SHARPNESS = 1.5
RANKING_SHARPNESS = 0.7  # the score is this times the click log-odds + Gumbel noise


@dataclasses.dataclass(frozen=True)
class Slots:
    """How many candidates each source draws; the uniform ones are distinct, so a page can be filled."""

    interest: int
    shop: int
    style: int
    fresh: int
    uniform: int


def make_slots(config: MarketplaceConfig) -> Slots:
    """Splits the candidates: a page's worth uniform, of the rest 40/25/25/10% (16, 10, 10, 4, 10 of 50)."""
    rest = config.num_candidates - config.page_size
    shop, style, fresh = rest // 4, rest // 4, rest // 10
    return Slots(rest - shop - style - fresh, shop, style, fresh, config.page_size)


class TicketIndex:
    """Draws items of a group in proportion to their tickets among those that are out on a day.

    Tickets are sorted by group and first day, so what is out is a prefix of each group.

    Args:
      catalogue: the items.
      group: [I] the group of each item.
      num_groups: G.
    """

    def __init__(self, catalogue: Catalogue, group: np.ndarray, num_groups: int):
        tickets = catalogue.tickets
        self._group, self._tickets, self._first_day = group, tickets, catalogue.first_day
        order = np.lexsort((catalogue.first_day, group)).astype(np.int32)
        self._items = np.repeat(order, tickets[order])
        self._start = np.searchsorted(group[order].repeat(tickets[order]), np.arange(num_groups))
        self._num_groups = num_groups

    def count(self, day: int) -> np.ndarray:
        """Tickets of each group that are out on a day; returns [G]."""
        tickets = self._tickets * (self._first_day <= day)
        return np.bincount(self._group, tickets, self._num_groups).astype(np.int64)

    def draw(
        self, rng: np.random.Generator, count: np.ndarray, groups: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws one item per entry of groups [R, n]; returns items and whether the group had any."""
        size = count[groups]
        ticket = self._start[groups] + draw_below(rng, size)
        return self._items[np.minimum(ticket, self._items.size - 1)], size > 0

    def probability(self, day: int) -> np.ndarray:
        """P(item | its group is drawn) on a day; returns [I], 0 for what is not out."""
        out = self._tickets * (self._first_day <= day)
        return out / np.maximum(self.count(day)[self._group], 1)


class Policy:
    """The logging policy of a world.

    Args:
      world: the world.
    """

    def __init__(self, world: World):
        config, catalogue = world.config, world.catalogue
        self._world = world
        self._slots = make_slots(config)
        self._by_category = TicketIndex(catalogue, catalogue.category, config.num_categories)
        self._by_shop = TicketIndex(catalogue, catalogue.shop, config.num_shops)
        self._by_style = TicketIndex(catalogue, catalogue.style, len(catalogue.style_centres))
        self._by_age = np.argsort(catalogue.first_day, kind="stable").astype(np.int32)

    def num_available(self, day: int) -> int:
        """How many items the policy knows on a day: the first ones by age."""
        return int(np.count_nonzero(self._world.catalogue.first_day <= day))

    def draw_candidates(
        self, rng: np.random.Generator, day: int, users: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws the candidates of requests of one day.

        Args:
          rng: the source of randomness.
          day: day of the log.
          users: [R] user numbers.

        Returns:
          items [R, M], ascending in each row, and [R, M] whether it is the first of its kind in the row.
        """
        slots, population = self._slots, self._world.population
        favourite = rng.integers(FAVOURITE_SHOPS, size=(users.size, slots.shop))
        groups = (
            (self._by_category, draw_from_rows(rng, self._category_shares(day, users), slots.interest)),
            (self._by_shop, np.take_along_axis(population.favourites[users], favourite, axis=1)),
            (self._by_style, draw_from_rows(rng, self._style_shares(users), slots.style)),
        )
        num_available = self.num_available(day)
        parts = []
        for index, group in groups:
            items, found = index.draw(rng, index.count(day), group)
            if not found.all():
                anywhere = draw_below(rng, np.full(items.shape, num_available))
                items = np.where(found, items, self._by_age[anywhere])
            parts.append(items)
        known_before = (
            self.num_available(day - FRESH_DAYS) % num_available
        )  # 0, all items, where none is fresh
        fresh_size = np.full((users.size, slots.fresh), num_available - known_before)
        parts.append(self._by_age[known_before + draw_below(rng, fresh_size)])
        # Equal steps from a random start: uniform for each item, and distinct.
        first = draw_below(rng, np.full((users.size, 1), num_available))
        step = np.arange(slots.uniform) * (num_available // slots.uniform)
        parts.append(self._by_age[(first + step) % num_available])
        items = np.sort(np.concatenate(parts, axis=1), axis=1)
        is_first = np.ones(items.shape, bool)
        is_first[:, 1:] = items[:, 1:] != items[:, :-1]
        return items, is_first

    def draw_page(self, rng: np.random.Generator, log_odds: np.ndarray, is_first: np.ndarray) -> np.ndarray:
        """Orders the candidates by a noisy score.

        Args:
          rng: the source of randomness.
          log_odds: [R, M] click log-odds.
          is_first: [R, M] whether the candidate counts.

        Returns:
          [R, N] slots, top first.
        """
        # Exponential arrival times with rate exp(score): the same order as score + Gumbel noise.
        arrival = rng.standard_exponential(size=log_odds.shape, dtype=np.float32)
        arrival *= np.exp(np.float32(-RANKING_SHARPNESS) * log_odds)
        arrival[~is_first] = np.inf
        return np.argsort(arrival, axis=1)[:, : self._world.config.page_size]

    def compute_candidate_probability(self, day: int, users: np.ndarray) -> np.ndarray:
        """P(item is a candidate of a request), exact up to rounding; returns [R, I]."""
        slots, catalogue, population = self._slots, self._world.catalogue, self._world.population
        is_out = catalogue.first_day <= day
        uniform = is_out / is_out.sum()
        favourite_share = np.zeros((users.size, self._world.config.num_shops))
        np.put_along_axis(favourite_share, population.favourites[users], 1 / FAVOURITE_SHOPS, axis=1)
        sources = (
            (self._by_category, self._category_shares(day, users), catalogue.category, slots.interest),
            (self._by_shop, favourite_share, catalogue.shop, slots.shop),
            (self._by_style, self._style_shares(users), catalogue.style, slots.style),
        )
        is_fresh = is_out & (catalogue.first_day > day - FRESH_DAYS)
        is_fresh = is_fresh if is_fresh.any() else is_out
        log_miss = slots.fresh * np.log1p(is_fresh / -is_fresh.sum()) + np.log1p(-slots.uniform * uniform)
        log_miss = np.repeat(log_miss[None], users.size, axis=0)
        for index, shares, group, num_draws in sources:
            empty_share = shares[:, index.count(day) == 0].sum(axis=1, keepdims=True)
            drawn = shares[:, group] * index.probability(day) + empty_share * uniform
            log_miss += num_draws * np.log1p(-np.minimum(drawn, 1 - 1e-12))
        return -np.expm1(log_miss)

    def compute_examined_exposure(self, day: int, users: np.ndarray, log_odds: np.ndarray) -> np.ndarray:
        """P(item is shown and examined in a request), summed over the positions it may take.

        Candidates arrive at rate exp(score); the item that arrives at time t is shown at about the position
        that equals the expected number of arrivals before t. Replacing that number by its expectation is
        the one approximation.

        Args:
          day: day of the log.
          users: [R] user numbers.
          log_odds: [R, I] click log-odds of every item.

        Returns:
          [R, I].
        """
        candidate = self.compute_candidate_probability(day, users)
        rate = np.exp(RANKING_SHARPNESS * log_odds.astype(np.float64))
        examination = compute_examination(self._world)
        exposure = np.empty_like(candidate)
        grid = np.geomspace(0.02, 200.0, 40)
        for row in range(users.size):
            is_candidate = candidate[row] > 0
            share, speed = candidate[row, is_candidate], rate[row, is_candidate]
            scale = examination.size / (share @ speed)
            arrived = np.array([share @ -np.expm1(-speed * (t * scale)) for t in grid])
            times = scale * np.interp(np.arange(examination.size + 1), arrived, grid, left=0.0)
            times[0] = 0.0
            remaining = np.exp(-speed[:, None] * times)
            examined = (remaining[:, :-1] - remaining[:, 1:]) @ examination
            exposure[row] = 0.0
            exposure[row, is_candidate] = share * examined
        return exposure

    def _category_shares(self, day: int, users: np.ndarray) -> np.ndarray:
        return softmax(INTEREST_SHARPNESS * compute_interest(self._world, day, users))

    def _style_shares(self, users: np.ndarray) -> np.ndarray:
        affinity = self._world.population.taste[users] @ self._world.catalogue.style_centres.T
        return softmax(STYLE_SHARPNESS * affinity)

"""The users: who they are, what they like, how that moves, and how often they come."""

import dataclasses

import numpy as np
import pyarrow as pa

from sources.marketplace.catalogue import TASTE_DIM, Catalogue, make_ids
from sources.marketplace.config import FAVOURITE_SHOPS, MarketplaceConfig
from sources.marketplace.sampling import draw_from_rows, softmax

FOCUS_DAYS = 5.0  # mean stay of a focus
NEW_USER_SHARE = 0.3  # join while the log runs
FAVOURITE_BOOSTS = np.linspace(2.0, 1.2, FAVOURITE_SHOPS, dtype=np.float32)  # log-odds of a click

GENDERS = ("f", "m", "x")
GENDER_SHARES = (0.49, 0.47, 0.04)
AGE_BUCKETS = ("18-24", "25-34", "35-44", "45-54", "55+")
NUM_OCCUPATIONS = 12
NUM_CITIES = 12
DEVICES = ("mobile", "desktop", "tablet")
DEVICE_SHARES = (0.6, 0.3, 0.1)


@dataclasses.dataclass(frozen=True)
class Population:
    """The users, one array row each; U users, C categories, D days.

    Attributes:
      gender, age, occupation, city, device: [U] codes; city is home, device the usual one.
      interest: [U, C] log-odds of a click that each category adds, for good.
      focus: [U, D] the category that adds more on that day.
      taste: [U, TASTE_DIM] matched against the items' latents.
      favourites: [U, FAVOURITE_SHOPS] distinct shops, most loved first.
      boosts: [FAVOURITE_SHOPS] log-odds of a click that a favourite adds.
      requests_per_day: [U] mean, over the days since joining.
      first_day: [U] the day of joining; 0 when it was before the log.
    """

    gender: np.ndarray
    age: np.ndarray
    occupation: np.ndarray
    city: np.ndarray
    device: np.ndarray
    interest: np.ndarray
    focus: np.ndarray
    taste: np.ndarray
    favourites: np.ndarray
    boosts: np.ndarray
    requests_per_day: np.ndarray
    first_day: np.ndarray


def build_population(config: MarketplaceConfig, catalogue: Catalogue) -> Population:
    """Draws the users. Switches never shift the draws: switching one off changes that effect alone."""
    rng = np.random.default_rng([config.seed, 3])
    size, categories = config.num_users, config.num_categories
    gender = rng.choice(len(GENDERS), size=size, p=GENDER_SHARES)
    age = rng.integers(len(AGE_BUCKETS), size=size)
    occupation = rng.integers(NUM_OCCUPATIONS, size=size)

    interest = rng.normal(scale=0.3, size=(len(GENDERS), categories))[gender]
    interest += rng.normal(scale=0.3, size=(len(AGE_BUCKETS), categories))[age]
    interest += rng.normal(scale=0.5, size=(size, categories))
    taste = 0.4 * rng.normal(size=(len(AGE_BUCKETS), TASTE_DIM))[age]
    taste += 0.4 * rng.normal(size=(NUM_OCCUPATIONS, TASTE_DIM))[occupation]
    taste += 0.8 * rng.normal(size=(size, TASTE_DIM))

    activity = rng.lognormal(sigma=1.2, size=size)
    joins_later = rng.random(size) < NEW_USER_SHARE * config.cold_start
    joining_day = rng.integers(config.num_days, size=size)
    return Population(
        gender=gender,
        age=age,
        occupation=occupation,
        city=np.minimum(rng.geometric(0.2, size=size) - 1, NUM_CITIES - 1),
        device=rng.choice(len(DEVICES), size=size, p=DEVICE_SHARES),
        interest=(interest * config.interest).astype(np.float32),
        focus=_draw_focus(config, interest),
        taste=(taste * config.taste).astype(np.float32),
        favourites=_draw_favourites(config, catalogue, interest),
        boosts=FAVOURITE_BOOSTS * np.float32(config.shop_affinity),
        requests_per_day=config.requests_per_user_day * activity / activity.mean(),
        first_day=np.where(joins_later, joining_day, 0).astype(np.int32),
    )


def _draw_focus(config: MarketplaceConfig, interest: np.ndarray) -> np.ndarray:
    """The focus category [U, D]: it stays with probability 1 - 1 / FOCUS_DAYS, or jumps."""
    rng = np.random.default_rng([config.seed, 4])
    jump = (1.0 / FOCUS_DAYS) * config.drift
    focus = draw_from_rows(rng, softmax(0.25 * interest), config.num_days).astype(np.uint8)
    for day in range(1, config.num_days):
        stays = rng.random(config.num_users) >= jump
        focus[stays, day] = focus[stays, day - 1]
    return focus


def _draw_favourites(config: MarketplaceConfig, catalogue: Catalogue, interest: np.ndarray) -> np.ndarray:
    """Distinct favourite shops [U, FAVOURITE_SHOPS], in categories of interest, bigger ones more often."""
    rng = np.random.default_rng([config.seed, 5])
    by_category = np.argsort(catalogue.shop_category, kind="stable")
    cumulative = np.concatenate([[0.0], np.cumsum(catalogue.shop_weight[by_category])])
    bounds = np.searchsorted(
        catalogue.shop_category[by_category], np.arange(config.num_categories + 1), side="left"
    )
    shares = softmax(interest)
    favourites = np.zeros((config.num_users, FAVOURITE_SHOPS), np.int32)
    redraw = np.ones(favourites.shape, bool)
    while redraw.any():
        users = np.flatnonzero(redraw.any(axis=1))
        category = draw_from_rows(rng, shares[users], FAVOURITE_SHOPS)
        low, high = cumulative[bounds[category]], cumulative[bounds[category + 1]]
        rank = np.searchsorted(cumulative, rng.uniform(low, high), side="right") - 1
        shop = by_category[np.minimum(rank, config.num_shops - 1)]
        # A tenth of the draws ignore the category, so that even a category of one shop comes to an end.
        is_anywhere = (low == high) | (rng.random(shop.shape) < 0.1)
        shop = np.where(is_anywhere, rng.integers(config.num_shops, size=shop.shape), shop)
        favourites[users] = np.where(redraw[users], shop, favourites[users])
        redraw[users] = _find_repeats(favourites[users])
    return favourites


def _find_repeats(values: np.ndarray) -> np.ndarray:
    """Whether each entry of [U, n] occurs further left in its row."""
    order = np.argsort(values, axis=1, kind="stable")
    ranked = np.take_along_axis(values, order, axis=1)
    is_repeat = np.zeros(values.shape, bool)
    np.put_along_axis(is_repeat, order[:, 1:], ranked[:, 1:] == ranked[:, :-1], axis=1)
    return is_repeat


def make_users_table(config: MarketplaceConfig, population: Population) -> pa.Table:
    """The users as the event log stores them."""
    return pa.table(
        {
            "user_id": make_ids("u", config.num_users),
            "gender": pa.array(GENDERS).take(pa.array(population.gender)),
            "age_bucket": pa.array(AGE_BUCKETS).take(pa.array(population.age)),
            "occupation": make_ids("o", NUM_OCCUPATIONS, 2).take(pa.array(population.occupation)),
            "city": make_ids("city", NUM_CITIES, 2).take(pa.array(population.city)),
        }
    )

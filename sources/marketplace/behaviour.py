"""What users do with what they see: the equations of clicks, conversions and dwell time.

Shapes: R requests of one day, M candidates, N page positions, C categories. All log-odds are float32.
"""

import numpy as np

from sources.marketplace.catalogue import DAY_MS, start_ms
from sources.marketplace.world import World

CLICK_BIAS = -4.1
FOCUS_BOOST = 1.8
TASTE_WEIGHT = 0.5
FRESHNESS_BOOST = 0.8
FRESHNESS_DAYS = 3.0

EXAMINATION_POWER = 0.3  # examined with probability (position + 1) ** -power

SAME_SHOP_FATIGUE = 0.6  # per item of the same shop above, three at most
SAME_CATEGORY_FATIGUE = 0.1  # per item of the same category above
PRICE_CONTRAST = 0.5  # per log unit that the neighbours cost more

CONVERSION_BIAS = -3.4
CONVERSION_MATCH = 0.3
CONVERSION_PRICE = 0.3
CONVERSION_DEVICE = np.array([0.0, 0.4, 0.1], np.float32)  # in the order of population.DEVICES


def compute_interest(world: World, day: int, users: np.ndarray) -> np.ndarray:
    """What each category adds to the click log-odds of users [R] on a day; returns [R, C]."""
    interest = world.population.interest[users]
    if world.config.interest:
        interest[np.arange(users.size), world.population.focus[users, day]] += FOCUS_BOOST
    return interest


def compute_match(world: World, day: int, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """How well items suit users: interest + taste + shop affinity, in log-odds of a click.

    Args:
      world: the world.
      day: day of the log.
      users: [R] user numbers.
      items: [R, M] item numbers.

    Returns:
      [R, M].
    """
    catalogue, population = world.catalogue, world.population
    match = np.take_along_axis(compute_interest(world, day, users), catalogue.category[items], axis=1)
    taste = TASTE_WEIGHT * population.taste[users]
    match += (catalogue.latent.take(items, axis=0) @ taste[:, :, None])[:, :, 0]
    shop = catalogue.shop[items]
    # Favourites are distinct: bytes that count up to the matching one are cheaper than sums of floats.
    rank = np.zeros(items.shape, np.uint8)  # 0: no favourite
    for number, favourite in enumerate(population.favourites[users].T, start=1):
        rank += (shop == favourite[:, None]).view(np.uint8) * np.uint8(number)
    return match + np.append(np.float32(0), population.boosts)[rank]


def compute_item_log_odds(world: World, day: int) -> np.ndarray:
    """The part of the click log-odds that every user shares: bias, quality, freshness; returns [I]."""
    catalogue = world.catalogue
    log_odds = CLICK_BIAS + catalogue.quality
    if world.config.cold_start:
        age_days = day - (catalogue.published_ms - start_ms(world.config)) / DAY_MS
        log_odds = log_odds + FRESHNESS_BOOST * np.exp(-np.maximum(age_days, 0.0) / FRESHNESS_DAYS)
    return log_odds.astype(np.float32)


def compute_examination(world: World) -> np.ndarray:
    """The probability that each position of a page is looked at; returns [N]."""
    positions = np.arange(1, world.config.page_size + 1, dtype=np.float32)
    return positions ** -np.float32(EXAMINATION_POWER * world.config.position_bias)


def compute_page_effect(world: World, page: np.ndarray) -> np.ndarray:
    """What the rest of the page adds to an item's click log-odds.

    Args:
      world: the world.
      page: [R, N] item numbers, top first.

    Returns:
      [R, N].
    """
    if not world.config.page_context:
        return np.zeros(page.shape, np.float32)
    catalogue = world.catalogue
    log_price = catalogue.log_price[page]
    effect = np.empty_like(log_price)
    shop, category = catalogue.shop[page], catalogue.category[page]
    last = page.shape[1] - 1
    for n in range(last + 1):
        same_shop = (shop[:, :n] == shop[:, n : n + 1]).sum(axis=1)
        same_category = (category[:, :n] == category[:, n : n + 1]).sum(axis=1)
        above, below = log_price[:, max(n - 1, 0)], log_price[:, min(n + 1, last)]
        # At the ends the missing neighbour is the item itself, which halves the contrast.
        contrast = np.clip((above + below) / 2 - log_price[:, n], -1.5, 1.5)
        effect[:, n] = PRICE_CONTRAST * contrast
        effect[:, n] -= SAME_SHOP_FATIGUE * np.minimum(same_shop, 3) + SAME_CATEGORY_FATIGUE * same_category
    return effect


def compute_conversion_probability(
    world: World, match: np.ndarray, items: np.ndarray, device: np.ndarray
) -> np.ndarray:
    """P(conversion | click).

    Args:
      world: the world.
      match: [R, M] from `compute_match`.
      items: [R, M] item numbers.
      device: [R] device codes.

    Returns:
      [R, M].
    """
    if not world.config.conversion_match:
        log_odds = np.full(items.shape, CONVERSION_BIAS + 0.6, np.float32)
        return sigmoid(log_odds)
    price_effect = np.float32(CONVERSION_BIAS) - CONVERSION_PRICE * world.catalogue.price_level
    log_odds = price_effect.astype(np.float32)[items] + np.float32(CONVERSION_MATCH) * match
    return sigmoid(log_odds + CONVERSION_DEVICE[device][:, None])


def draw_dwell_seconds(
    world: World, rng: np.random.Generator, match: np.ndarray, converted: np.ndarray
) -> np.ndarray:
    """Time spent on the clicked items [K], longer on what suits and on what is bought; 0.5 s to 1 h."""
    log_seconds = rng.normal(3.0, 0.7, size=match.size)
    if world.config.dwell_signal:
        log_seconds += 0.15 * match + 0.8 * converted
    return np.clip(np.exp(log_seconds), 0.5, 3600.0).astype(np.float32)


def sigmoid(log_odds: np.ndarray) -> np.ndarray:
    """The logistic function, in the input's precision."""
    return 1 / (1 + np.exp(-log_odds))

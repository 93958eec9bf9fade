"""One block of requests: who comes when, what is shown, what happens. Arrays only; no file is touched.

Shapes: R requests, M candidate slots, N page positions, L rows (candidates without duplicates), S = R * N
shown rows in page order.
"""

import dataclasses

import numpy as np

from sources.marketplace import behaviour
from sources.marketplace.catalogue import DAY_MS, start_ms
from sources.marketplace.policy import Policy
from sources.marketplace.population import DEVICES, NUM_CITIES
from sources.marketplace.world import World

REQUESTS_PER_BLOCK = 4096  # what is in memory at a time, and the unit of the random streams
BURSTINESS = 2.0  # a user's requests of a day are spread like a negative binomial of this shape


@dataclasses.dataclass(frozen=True)
class Requests:
    """Requests in time order.

    Attributes:
      user: [R] user numbers.
      timestamp_ms: [R] since the epoch.
    """

    user: np.ndarray
    timestamp_ms: np.ndarray


@dataclasses.dataclass(frozen=True)
class Block:
    """The rows of a block, request by request; within a request the items are in catalogue order.

    Attributes:
      request: [L] index of the request within the block.
      item: [L] item numbers.
      click_probability: [L] as examined on the page for shown rows, of the item alone for others.
      conversion_probability: [L] P(conversion | click).
      shown: [S] rows that were shown, page by page, top first.
      clicked: [S] whether it was clicked.
      clicked_row: [K] rows that were clicked.
      clicked_ms, dwell_seconds: [K] when, and for how long.
      converted: [K] whether the click converted.
      converted_ms: [K] when; meaningless where it did not.
      device, city: [R] codes of the request's context.
    """

    request: np.ndarray
    item: np.ndarray
    click_probability: np.ndarray
    conversion_probability: np.ndarray
    shown: np.ndarray
    clicked: np.ndarray
    clicked_row: np.ndarray
    clicked_ms: np.ndarray
    dwell_seconds: np.ndarray
    converted: np.ndarray
    converted_ms: np.ndarray
    device: np.ndarray
    city: np.ndarray


def draw_requests(world: World, day: int) -> Requests:
    """Draws a day's requests: 12 bytes each, the only thing that grows with a day."""
    config, population = world.config, world.population
    rng = np.random.default_rng([config.seed, 6, day])
    rate = population.requests_per_day * (population.first_day <= day)
    count = rng.poisson(rate * rng.gamma(BURSTINESS, 1 / BURSTINESS, size=rate.size))
    user = np.repeat(np.arange(config.num_users, dtype=np.int32), count)
    # Two broad peaks, at noon and in the evening; what falls outside the day is folded into it.
    peak = np.where(rng.random(user.size) < 0.4, 12.5, 20.0)
    hour = rng.normal(peak, 3.0) % 24.0
    offset_ms = np.minimum((hour * 3_600_000).astype(np.int64), DAY_MS - 1)
    order = np.argsort(offset_ms, kind="stable")
    return Requests(user[order], start_ms(config) + day * DAY_MS + offset_ms[order])


def simulate_block(world: World, policy: Policy, day: int, number: int, requests: Requests) -> Block:
    """Simulates a block of a day's requests.

    Args:
      world: the world.
      policy: its logging policy.
      day: day of the log.
      number: which block of the day; with the day it seeds the block.
      requests: [R] the block's requests.
    """
    rng = np.random.Generator(np.random.SFC64([world.config.seed, 7, day, number]))
    user = requests.user
    items, is_first = policy.draw_candidates(rng, day, user)
    match = behaviour.compute_match(world, day, user, items)
    log_odds = match + behaviour.compute_item_log_odds(world, day)[items]
    slots = policy.draw_page(rng, log_odds, is_first)

    page = np.take_along_axis(items, slots, axis=1)
    page_log_odds = np.take_along_axis(log_odds, slots, axis=1) + behaviour.compute_page_effect(world, page)
    shown_probability = behaviour.sigmoid(page_log_odds) * behaviour.compute_examination(world)
    clicked = rng.random(size=page.shape, dtype=np.float32) < shown_probability

    device = np.where(
        rng.random(user.size) < 0.8, world.population.device[user], rng.integers(len(DEVICES), size=user.size)
    )
    at_home = rng.random(user.size) < 0.95
    city = np.where(at_home, world.population.city[user], rng.integers(NUM_CITIES, size=user.size))
    conversion_probability = behaviour.compute_conversion_probability(world, match, items, device)
    click_probability = behaviour.sigmoid(log_odds)
    np.put_along_axis(click_probability, slots, shown_probability, axis=1)

    row_of_slot = np.cumsum(is_first.ravel()).reshape(is_first.shape) - 1  # of the kept ones
    shown = np.take_along_axis(row_of_slot, slots, axis=1)
    request, position = np.nonzero(clicked)
    slot = slots[request, position]
    converted = rng.random(request.size) < conversion_probability[request, slot]
    dwell_seconds = behaviour.draw_dwell_seconds(world, rng, match[request, slot], converted)
    delay_seconds = np.clip(rng.lognormal(np.log(8.0 + 3.0 * position), 0.7), 1.0, 600.0)
    clicked_ms = requests.timestamp_ms[request] + (1000 * delay_seconds).astype(np.int64)
    until_order_seconds = dwell_seconds + np.clip(
        rng.lognormal(np.log(2400.0), 1.3, request.size), 60, 129_600
    )
    return Block(
        request=np.repeat(np.arange(user.size), is_first.sum(axis=1)),
        item=items[is_first],
        click_probability=click_probability[is_first],
        conversion_probability=conversion_probability[is_first],
        shown=shown.ravel(),
        clicked=clicked.ravel(),
        clicked_row=shown[request, position],
        clicked_ms=clicked_ms,
        dwell_seconds=dwell_seconds,
        converted=converted,
        converted_ms=clicked_ms + (1000 * until_order_seconds).astype(np.int64),
        device=device,
        city=city,
    )

"""Planted effects: each is alone, or with what it needs, so that nothing else can cause what is measured."""

import dataclasses

import numpy as np
import pytest

from sources.marketplace import EFFECTS
from sources.marketplace.world import build_world


def measure_interest(log):
    """Click rate in the third of categories that the user likes most against the third liked least."""
    interest = build_world(log.config).population.interest
    rank = np.argsort(np.argsort(interest, axis=1), axis=1)
    category = log.items.category.str[1:].astype(int).to_numpy()
    return compute_lift(log, rank[log.shown.user, category[log.shown.item]], below=7, above=12)


def measure_drift(log):
    """How much likelier two clicks of a user share the category within a day than four days apart."""
    clicks = log.rows[log.rows.was_clicked]
    clicks = clicks.assign(category=log.items.category.to_numpy()[clicks.item])[["user", "day", "category"]]
    pairs = clicks.merge(clicks, on="user")
    pairs = pairs[pairs.day_x < pairs.day_y]
    same, apart = pairs.category_x == pairs.category_y, pairs.day_y - pairs.day_x
    return same[apart <= 1].mean() / same[apart >= 4].mean()


def measure_taste(log):
    """Click rate where taste and item latent agree against where they disagree."""
    world = build_world(log.config)
    agreement = (world.population.taste[log.shown.user] * world.catalogue.latent[log.shown.item]).sum(axis=1)
    return compute_lift(log, agreement, below=-0.3, above=0.3)


def measure_shop_affinity(log):
    """Click rate in the user's favourite shops against elsewhere, over the whole log."""
    return compute_lift(log, find_favourites(log), below=0, above=1)


def measure_popularity(log):
    """Tickets of the shown items against the whole catalogue's."""
    tickets = build_world(log.config).catalogue.tickets
    return tickets[log.shown.item].mean() / tickets.mean()


def measure_quality(log):
    """Click rate of the better items against the worse."""
    return compute_lift(log, build_world(log.config).catalogue.quality[log.shown.item], below=-0.2, above=0.2)


def measure_cold_start(log):
    """One and the share of the shown rows whose item was published while the log ran."""
    published = log.items.published_at.dt.date.to_numpy()[log.shown.item]
    return 1 + (published >= log.config.start_date).mean()


def measure_freshness(log):
    """Click rate of items younger than three days against older ones."""
    published = log.items.published_at.iloc[log.shown.item].reset_index(drop=True)
    age = log.shown.timestamp.reset_index(drop=True) - published
    return compute_lift(log, -age.dt.days, below=-3, above=-2)


def measure_position_bias(log):
    """Click rate of the upper three positions against the lower three."""
    return compute_lift(log, -log.shown.position, below=-7, above=-2)


def measure_shop_fatigue(log):
    """Click rate of items with no item of their shop above them against the others."""
    shown = log.shown.assign(shop=log.items.shop_id.to_numpy()[log.shown.item])
    above = shown.sort_values("position").groupby(["request_id", "shop"]).cumcount()
    return compute_lift(log, -above.reindex(shown.index), below=-1, above=0)


def measure_price_contrast(log):
    """Click rate of items that are cheaper than their neighbours against dearer ones."""
    shown = log.shown.assign(log_price=np.log(log.items.price.to_numpy()[log.shown.item]))
    by_page = shown.sort_values(["request_id", "position"]).groupby("request_id").log_price
    contrast = (by_page.shift(1) + by_page.shift(-1)) / 2 - shown.log_price
    return compute_lift(log, contrast.reindex(shown.index), below=-0.5, above=0.5)


def measure_conversion_match(log):
    """Conversion rate of clicks in favourite shops against elsewhere."""
    return compute_lift(log, find_favourites(log), below=0, above=1, outcome="converted")


def measure_dwell_signal(log):
    """Mean dwell time of clicks that converted against those that did not."""
    clicks = log.shown[log.shown.was_clicked]
    return (
        clicks.dwell_seconds[clicks.was_converted].mean() / clicks.dwell_seconds[~clicks.was_converted].mean()
    )


def find_favourites(log):
    world = build_world(log.config)
    shop = world.catalogue.shop[log.shown.item]
    return (world.population.favourites[log.shown.user] == shop[:, None]).any(axis=1).astype(int)


def compute_lift(log, value, *, below, above, outcome="clicked"):
    """Rate of the outcome where value >= above, over the rate where value <= below."""
    shown, value = log.shown, np.asarray(value)
    counts = shown.was_clicked.to_numpy() if outcome == "converted" else np.ones(len(shown), bool)
    happened = shown[f"was_{outcome}"].to_numpy()
    return happened[counts & (value >= above)].mean() / happened[counts & (value <= below)].mean()


EFFECT_TESTS = [
    # effect, what it needs, measure, at least when on
    ("interest", [], measure_interest, 2.0),
    ("drift", ["interest"], measure_drift, 1.25),
    ("taste", [], measure_taste, 1.4),
    ("shop_affinity", [], measure_shop_affinity, 3.0),
    ("long_tail", [], measure_popularity, 1.5),
    ("long_tail", [], measure_quality, 1.3),
    ("cold_start", [], measure_cold_start, 1.05),
    ("position_bias", [], measure_position_bias, 1.4),
    ("page_context", [], measure_shop_fatigue, 1.4),
    ("page_context", [], measure_price_contrast, 1.4),
    ("conversion_match", ["shop_affinity"], measure_conversion_match, 1.4),
    ("dwell_signal", ["shop_affinity"], measure_dwell_signal, 1.7),
]


@pytest.mark.parametrize(("effect", "needs", "measure", "least"), EFFECT_TESTS)
def test_effect_is_there_when_on_and_absent_when_off(effect_log, effect, needs, measure, least):
    present, absent = measure(effect_log(*needs, effect)), measure(effect_log(*needs))
    assert present > least
    # Halfway on a log scale is far outside the noise of a measure whose true value is 1.
    assert abs(np.log(absent)) < 0.5 * np.log(least)


def test_every_effect_has_a_test():
    assert {effect for effect, *_ in EFFECT_TESTS} == set(EFFECTS)


def test_new_items_draw_more_clicks(effect_log):
    assert measure_freshness(effect_log("cold_start")) > 1.3
    assert measure_freshness(effect_log()) == pytest.approx(1.0, abs=0.15)


def test_users_join_while_the_log_runs_only_with_cold_start(small_config):
    joining = build_world(small_config).population.first_day
    assert 0.15 < (joining > 0).mean() < 0.35
    assert not build_world(dataclasses.replace(small_config, cold_start=False)).population.first_day.any()


def test_favourite_shops_matter_as_much_on_the_last_day(small_log):
    rows = small_log.rows[small_log.rows.day == small_log.config.num_days - 1]
    last_day = dataclasses.replace(small_log, rows=rows)
    assert measure_shop_affinity(last_day) > 2


def test_switching_an_effect_off_changes_nothing_else(small_config):
    on, off = (build_world(dataclasses.replace(small_config, taste=taste)) for taste in (True, False))
    for name, value in vars(on.population).items():
        assert np.array_equal(value, getattr(off.population, name)) == (name != "taste")

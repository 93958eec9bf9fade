import dataclasses
import datetime as dt
import functools
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pytest

from sources.event_log import EventLog, EventLogError
from sources.marketplace import EFFECTS, MarketplaceConfig, Oracle, simulate
from sources.marketplace.behaviour import compute_item_log_odds, compute_match
from sources.marketplace.policy import Policy
from sources.marketplace.requests import REQUESTS_PER_BLOCK, draw_requests
from sources.marketplace.world import build_world
from sources.validation import validate_event_log

SMALL = MarketplaceConfig(
    num_users=800, num_items=1500, num_shops=80, num_brands=60, num_days=6, requests_per_user_day=1.5
)
ALL_OFF = dict.fromkeys(EFFECTS, False)


@dataclasses.dataclass(frozen=True)
class Log:
    path: object
    summary: object
    rows: pd.DataFrame  # candidates, in file order, with the oracle's columns
    items: pd.DataFrame

    @property
    def shown(self):
        return self.rows[self.rows.position.notna()]


def read_log(path, summary=None):
    rows = ds.dataset(path / "impressions", partitioning="hive").to_table().to_pandas()
    oracle = (
        ds.dataset(path / "oracle", partitioning="hive", exclude_invalid_files=True).to_table().to_pandas()
    )
    assert (rows.request_id == oracle.request_id).all()
    assert (rows.item_id == oracle.item_id).all()
    probabilities = oracle[["click_probability", "conversion_probability"]]
    return Log(path, summary, with_numbers(rows).join(probabilities), pd.read_parquet(path / "items.parquet"))


def with_numbers(rows):
    """Adds numbers for ids and days, and outcomes that are false rather than null."""
    return rows.assign(
        user=rows.user_id.str[1:].astype(int),
        item=rows.item_id.str[1:].astype(int),
        day=(rows.timestamp - rows.timestamp.min().normalize()).dt.days,
        was_clicked=rows.clicked.fillna(False).astype(bool),
        was_converted=rows.converted.fillna(False).astype(bool),
    )


@pytest.fixture(scope="module")
def small_log(tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "log"
    return read_log(path, simulate(SMALL, path))


@pytest.fixture
def simulate_log(tmp_path):
    def run(**changes):
        path = tmp_path / f"log-{len(list(tmp_path.iterdir()))}"
        return read_log(path, simulate(dataclasses.replace(SMALL, **changes), path))

    return run


@pytest.fixture(scope="module")
def effect_log(tmp_path_factory):
    """The shown rows of a log with these effects alone, simulated once."""

    @functools.cache
    def run(*effects):
        path = tmp_path_factory.mktemp("effect") / "log"
        switches = ALL_OFF | dict.fromkeys(effects, True)
        simulate(dataclasses.replace(SMALL, requests_per_user_day=5.0, **switches), path)
        is_shown = ds.field("position").is_valid()
        rows = ds.dataset(path / "impressions").to_table(filter=is_shown).to_pandas()
        return Log(path, None, with_numbers(rows), pd.read_parquet(path / "items.parquet"))

    return run


# The contract.


def test_log_is_valid_and_says_that_it_is_synthetic(small_log):
    log = EventLog(small_log.path)
    validate_event_log(log)
    assert log.manifest.synthetic
    assert (log.manifest.source, log.manifest.schema) == ("marketplace", "marketplace")
    assert len(log.partitions()) == SMALL.num_days
    assert json.loads((small_log.path / "oracle" / "params.json").read_text())["synthetic"] is True


def test_requests_are_pages_in_time_order(small_log):
    rows, shown = small_log.rows, small_log.shown
    assert rows.timestamp.is_monotonic_increasing
    by_request = rows.groupby("request_id", sort=False)
    assert (by_request[["user_id", "timestamp", "device", "city"]].nunique() == 1).all(axis=None)
    assert (rows.request_id != rows.request_id.shift()).sum() == rows.request_id.nunique()  # contiguous
    assert not rows.duplicated(["request_id", "item_id"]).any()
    assert by_request.size().between(SMALL.page_size, SMALL.num_candidates).all()
    assert by_request.size().mean() > 0.85 * SMALL.num_candidates
    pages = shown.sort_values(["request_id", "position"]).position.to_numpy().reshape(-1, SMALL.page_size)
    assert (pages == np.arange(SMALL.page_size)).all()
    published = small_log.items.published_at.to_numpy()[rows.item]
    assert (published < rows.timestamp.to_numpy()).all()


def test_what_follows_a_click_is_null_without_it(small_log):
    rows, shown = small_log.rows, small_log.shown
    assert rows.clicked.isna().equals(rows.position.isna())
    assert rows.converted.isna().equals(rows.position.isna())
    assert rows.clicked_at.notna().equals(rows.was_clicked)
    assert rows.dwell_seconds.notna().equals(rows.was_clicked)
    assert rows.converted_at.notna().equals(rows.was_converted)
    assert rows.was_clicked[rows.was_converted].all()
    assert (shown.clicked_at.dropna() > shown.timestamp[shown.was_clicked]).all()
    converted = shown[shown.was_converted]
    assert (converted.converted_at > converted.clicked_at).all()
    assert (converted.converted_at.dt.date > converted.timestamp.dt.date).any()  # some the day after


def test_summary_counts_the_log(small_log):
    summary, shown = small_log.summary, small_log.shown
    assert summary.num_requests == small_log.rows.request_id.nunique()
    assert summary.num_candidates == len(small_log.rows)
    assert summary.num_shown == len(shown) == summary.num_requests * SMALL.page_size
    assert summary.num_clicks == shown.was_clicked.sum()
    assert summary.num_conversions == shown.was_converted.sum()
    assert summary.oracle_auc == pytest.approx(
        compute_auc(shown.click_probability, shown.was_clicked), abs=1e-3
    )


def test_same_seed_gives_the_same_bytes(tmp_path):
    config = dataclasses.replace(SMALL, num_days=2)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        simulate(dataclasses.replace(config, seed=seed), tmp_path / name)
    a, b, c = (EventLog(tmp_path / name).fingerprint() for name in "abc")
    assert a == b != c
    for file in (tmp_path / "a" / "oracle").rglob("*.*"):
        if file.is_file():
            assert file.read_bytes() == (tmp_path / "b" / file.relative_to(tmp_path / "a")).read_bytes()


def test_a_day_without_requests_and_the_smallest_world_are_valid(tmp_path):
    config = MarketplaceConfig(
        num_users=1,
        num_items=20,
        num_shops=48,
        num_categories=2,
        num_brands=1,
        num_days=3,
        requests_per_user_day=0.3,
        num_candidates=10,
        page_size=10,
    )
    summary = simulate(config, tmp_path / "log")
    assert summary.num_shown == 10 * summary.num_requests
    assert len(EventLog(tmp_path / "log").partitions()) == 3
    assert Oracle(tmp_path / "log").relevance(["u000000"], [dt.datetime(2024, 1, 1, 12)]).shape == (1, 20)


def test_a_failure_leaves_nothing_behind(tmp_path):
    def fail(day, num_shown):
        raise RuntimeError(day)

    with pytest.raises(RuntimeError):
        simulate(SMALL, tmp_path / "log", progress=fail)
    assert not list(tmp_path.iterdir())


def test_an_existing_directory_is_refused(tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(EventLogError, match="exists already"):
        simulate(SMALL, tmp_path)


def test_progress_reports_every_day(tmp_path):
    calls = []
    summary = simulate(SMALL, tmp_path / "log", progress=lambda *call: calls.append(call))
    assert [day for day, _ in calls] == [SMALL.start_date + dt.timedelta(days=n) for n in range(6)]
    assert calls[-1][1] == summary.num_shown


# Memory.


def test_memory_does_not_grow_with_rows(tmp_path):
    peaks = []
    for rows in (300_000, 1_200_000):
        command = [sys.executable, "-m", "benchmarks.simulator_throughput", "--json", "--rows", str(rows)]
        result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        assert result["shown_rows"] == pytest.approx(rows, rel=0.05)
        peaks.append(result["peak_rss_mib"])
    assert peaks[1] < 1.2 * peaks[0]  # four times the rows


def test_a_busy_day_is_written_in_several_files(simulate_log):
    log = simulate_log(num_users=2500, num_days=1, requests_per_user_day=2.5)
    files = next(iter(EventLog(log.path).partitions().values()))
    assert len(files) == -(-log.summary.num_requests // REQUESTS_PER_BLOCK) > 1
    assert log.rows.timestamp.is_monotonic_increasing


# Planted effects: each is alone, or with what it needs, so that nothing else can cause what is measured.


def measure_interest(log):
    """Click rate in the third of categories that the user likes most against the third liked least."""
    interest = build_world(SMALL).population.interest
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
    world = build_world(SMALL)
    agreement = (world.population.taste[log.shown.user] * world.catalogue.latent[log.shown.item]).sum(axis=1)
    return compute_lift(log, agreement, below=-0.3, above=0.3)


def measure_shop_affinity(log):
    """Click rate in the user's favourite shops against elsewhere, over the whole log."""
    return compute_lift(log, find_favourites(log), below=0, above=1)


def measure_popularity(log):
    """Tickets of the shown items against the whole catalogue's."""
    tickets = build_world(SMALL).catalogue.tickets
    return tickets[log.shown.item].mean() / tickets.mean()


def measure_quality(log):
    """Click rate of the better items against the worse."""
    return compute_lift(log, build_world(SMALL).catalogue.quality[log.shown.item], below=-0.2, above=0.2)


def measure_cold_start(log):
    """One and the share of the shown rows whose item was published while the log ran."""
    published = log.items.published_at.dt.date.to_numpy()[log.shown.item]
    return 1 + (published >= SMALL.start_date).mean()


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
    world = build_world(SMALL)
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


def test_users_join_while_the_log_runs_only_with_cold_start():
    joining = build_world(SMALL).population.first_day
    assert 0.15 < (joining > 0).mean() < 0.35
    assert not build_world(dataclasses.replace(SMALL, cold_start=False)).population.first_day.any()


def test_favourite_shops_matter_as_much_on_the_last_day(small_log):
    last_day = dataclasses.replace(small_log, rows=small_log.rows[small_log.rows.day == SMALL.num_days - 1])
    assert measure_shop_affinity(last_day) > 2


def test_switching_an_effect_off_changes_nothing_else():
    on, off = (build_world(dataclasses.replace(SMALL, taste=taste)) for taste in (True, False))
    for name, value in vars(on.population).items():
        assert np.array_equal(value, getattr(off.population, name)) == (name != "taste")


def test_titles_tell_category_and_brand(small_log):
    words = small_log.items.title.str.split(expand=True)
    assert small_log.items.groupby(words[1]).brand.nunique().eq(1).all()
    assert small_log.items.groupby(words[2]).category.nunique().eq(1).all()


# The oracle.


def compute_auc(score, label):
    rank, positives = score.rank().to_numpy(), label.to_numpy()
    num = positives.sum()
    return (rank[positives].sum() - num * (num + 1) / 2) / num / (len(positives) - num)


@pytest.mark.parametrize("outcome", ["click", "conversion"])
def test_oracle_is_calibrated(small_log, outcome):
    shown = small_log.shown
    rows, label = (
        (shown, "was_clicked") if outcome == "click" else (shown[shown.was_clicked], "was_converted")
    )
    probability = rows[f"{outcome}_probability"]
    for _, part in rows.groupby(pd.qcut(probability, 10)):
        expected = part[probability.name]
        error = np.sqrt((expected * (1 - expected)).sum()) / len(part)
        assert abs(expected.mean() - part[label].mean()) < 4 * error


def test_defaults_give_a_log_of_the_documented_kind(tmp_path):
    summary = simulate(MarketplaceConfig(), tmp_path / "log")
    assert 200_000 < summary.num_shown < 250_000
    assert 0.07 < summary.click_rate < 0.11
    assert 0.06 < summary.conversion_rate < 0.11
    assert 0.75 < summary.oracle_auc < 0.85
    assert 0.58 < summary.oracle_conversion_auc < 0.7


def test_relevance_is_what_clicks_were_drawn_from(small_log):
    rows = small_log.rows[small_log.rows.position.isna()].sample(300, random_state=0)
    relevance = Oracle(small_log.path).relevance(list(rows.user_id), rows.timestamp.dt.to_pydatetime())
    probability = 1 / (1 + np.exp(-relevance[np.arange(len(rows)), rows.item]))
    np.testing.assert_allclose(probability, rows.click_probability, rtol=1e-4)


def test_relevance_hides_items_that_are_published_later(small_log):
    oracle = Oracle(small_log.path)
    noon = dt.datetime(2024, 1, 3, 12, tzinfo=dt.timezone.utc)
    later = (small_log.items.published_at > noon).to_numpy()
    relevance, scores = (
        compute(["u000001"], [noon])[0] for compute in (oracle.relevance, oracle.retrieval_scores)
    )
    assert 0 < later.sum() < SMALL.num_items
    assert np.array_equal(np.isneginf(relevance), later)
    assert np.isneginf(scores[later]).all()
    assert np.isfinite(scores).sum() > 1000
    assert list(oracle.item_ids) == list(small_log.items.item_id)


def test_a_batch_equals_its_rows(small_log):
    oracle = Oracle(small_log.path)
    users = [f"u{n:06d}" for n in range(70)]
    times = [dt.datetime(2024, 1, 1 + n % 6, 9, tzinfo=dt.timezone.utc) for n in range(70)]
    batch = oracle.retrieval_scores(users, times)
    for n in (0, 1, 69):
        np.testing.assert_allclose(oracle.retrieval_scores([users[n]], [times[n]])[0], batch[n], rtol=1e-4)


def test_candidate_and_exposure_probabilities_match_the_log(simulate_log):
    log = simulate_log(position_bias=False, num_days=1, requests_per_user_day=3.0)
    oracle = Oracle(log.path)
    world = oracle._world
    policy = Policy(world)
    requests = draw_requests(world, 0).user
    user, count = np.unique(requests, return_counts=True)
    rows = pd.DataFrame(
        index=pd.MultiIndex.from_product([user, range(SMALL.num_items)], names=["user", "item"])
    )
    items = np.broadcast_to(np.arange(SMALL.num_items), (user.size, SMALL.num_items))
    log_odds = compute_match(world, 0, user, items) + compute_item_log_odds(world, 0)
    candidate = policy.compute_candidate_probability(0, user)
    exposure = policy.compute_examined_exposure(0, user, log_odds)
    rows["candidate"], rows["shown"] = (
        (count[:, None] * candidate).ravel(),
        (count[:, None] * exposure).ravel(),
    )
    for name, events, tolerance in (("candidate", log.rows, 0.03), ("shown", log.shown, 0.06)):
        happened = events.groupby(["user", "item"]).size().reindex(rows.index, fill_value=0)
        top = pd.qcut(rows[name].rank(method="first"), [0, 0.5, 0.8, 0.9, 0.97, 0.99, 1.0])
        table = pd.DataFrame({"expected": rows[name], "happened": happened}).groupby(top).sum()
        noise = 4 / np.sqrt(table.expected)
        assert (abs(table.happened / table.expected - 1) < tolerance + noise).all(), table


def test_retrieval_ceiling_is_far_above_popularity(small_log):
    clicks = small_log.rows[small_log.rows.was_clicked]
    test = clicks[clicks.day == SMALL.num_days - 1]
    popularity = np.bincount(clicks.item[clicks.day < SMALL.num_days - 1], minlength=SMALL.num_items)
    scores = Oracle(small_log.path).retrieval_scores(list(test.user_id), test.timestamp.dt.to_pydatetime())
    clicked = scores[np.arange(len(test)), test.item]
    oracle_recall = ((scores > clicked[:, None]).sum(axis=1) < 10).mean()
    popularity_recall = test.item.isin(np.argsort(-popularity, kind="stable")[:10]).mean()
    assert oracle_recall > 3 * popularity_recall > 0


# Errors.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_users": 0}, "num_users is 0, expected a whole number from 1"),
        ({"num_items": 99}, "num_items is 99, expected a whole number from 100"),
        ({"num_days": 1.5}, "num_days is 1.5"),
        ({"page_size": 1}, "page_size is 1"),
        ({"num_candidates": 9}, "num_candidates is 9, expected a whole number from 10"),
        ({"num_shops": True}, "num_shops is True"),
        ({"seed": -1}, "seed is -1"),
        ({"requests_per_user_day": 0}, "requests_per_user_day is 0, expected a number above 0"),
        ({"requests_per_user_day": float("nan")}, "requests_per_user_day is nan"),
        ({"start_date": "soon"}, "start_date is 'soon', expected a date"),
        ({"drift": 1}, "drift is 1, expected true or false"),
    ],
)
def test_config_refuses_what_cannot_be_simulated(changes, message):
    with pytest.raises(ValueError, match=message):
        MarketplaceConfig(**changes)


def test_config_survives_json():
    config = dataclasses.replace(SMALL, start_date=dt.date(2023, 2, 28), drift=False)
    assert MarketplaceConfig(**json.loads(json.dumps(config.to_json()))) == config


def test_oracle_names_what_it_does_not_know(small_log, tmp_path):
    oracle = Oracle(small_log.path)
    noon = dt.datetime(2024, 1, 3, 12, tzinfo=dt.timezone.utc)
    with pytest.raises(ValueError, match="user nobody"):
        oracle.relevance(["nobody"], [noon])
    with pytest.raises(ValueError, match="2024-01-01 to 2024-01-06"):
        oracle.relevance(["u000001"], [noon + dt.timedelta(days=9)])
    with pytest.raises(ValueError, match="got 1 users and 2 timestamps"):
        oracle.relevance(["u000001"], [noon, noon])
    with pytest.raises(FileNotFoundError, match=r"params\.json"):
        Oracle(tmp_path)


def test_oracle_refuses_a_world_that_it_cannot_rebuild(tmp_path):
    simulate(dataclasses.replace(SMALL, num_days=1), tmp_path / "log")
    path = tmp_path / "log" / "oracle" / "params.json"
    params = json.loads(path.read_text())
    params["world_checksum"]["taste"] *= 1.01
    path.write_text(json.dumps(params))
    with pytest.raises(ValueError, match="Simulate the log again"):
        Oracle(tmp_path / "log")

"""The oracle: the probabilities that the events were drawn from, and what it refuses to answer."""

import dataclasses
import datetime as dt
import json

import numpy as np
import pandas as pd
import pytest

from sources.marketplace import Oracle, simulate
from sources.marketplace.behaviour import compute_item_log_odds, compute_match
from sources.marketplace.policy import Policy
from sources.marketplace.requests import draw_requests


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
    assert 0 < later.sum() < small_log.config.num_items
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
        index=pd.MultiIndex.from_product([user, range(log.config.num_items)], names=["user", "item"])
    )
    items = np.broadcast_to(np.arange(log.config.num_items), (user.size, log.config.num_items))
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
    last_day, num_items = small_log.config.num_days - 1, small_log.config.num_items
    test = clicks[clicks.day == last_day]
    popularity = np.bincount(clicks.item[clicks.day < last_day], minlength=num_items)
    scores = Oracle(small_log.path).retrieval_scores(list(test.user_id), test.timestamp.dt.to_pydatetime())
    clicked = scores[np.arange(len(test)), test.item]
    oracle_recall = ((scores > clicked[:, None]).sum(axis=1) < 10).mean()
    popularity_recall = test.item.isin(np.argsort(-popularity, kind="stable")[:10]).mean()
    assert oracle_recall > 3 * popularity_recall > 0


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


def test_oracle_refuses_a_world_that_it_cannot_rebuild(small_config, tmp_path):
    simulate(dataclasses.replace(small_config, num_days=1), tmp_path / "log")
    path = tmp_path / "log" / "oracle" / "params.json"
    params = json.loads(path.read_text())
    params["world_checksum"]["taste"] *= 1.01
    path.write_text(json.dumps(params))
    with pytest.raises(ValueError, match="Simulate the log again"):
        Oracle(tmp_path / "log")

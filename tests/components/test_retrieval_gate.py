import dataclasses

import numpy as np
import pandas as pd
import pytest

from components.retrieval_evaluator.metrics import bootstrap_lower_bound
from components.retrieval_gate import RetrievalThresholds, check_item_to_item, check_retrieval

THRESHOLDS = RetrievalThresholds(
    min_recall_100=0.1,
    live_tolerance=0.02,
    item_to_item_tolerance=0.02,
    confidence=0.95,
    bootstrap_samples=500,
    min_index_recall=0.95,
    max_index_latency_ms=20.0,
)
INDEX = {"latency_ms": {"p50": 1.0, "p99": 2.0}}
AGREEMENT = {"depth": 500, "recall": 0.97, "similar_recall": 0.96}


def make_per_user(values):
    """The evaluator's table of models given as {name: per-user recall}."""
    return pd.concat(
        pd.DataFrame({"model": name, "user_id": np.arange(len(v)), "recall_100": v})
        for name, v in values.items()
    )


def make_checks(values, index=INDEX, agreement=AGREEMENT, compare_with_live=True, thresholds=THRESHOLDS):
    """Checks of models given as {name: per-user recall}."""
    models = {name: {"all": {"recall_100": float(np.mean(v))}} for name, v in values.items()}
    metrics = {"models": models, "index": {"candidate": agreement}}
    checks = check_retrieval(make_per_user(values), metrics, index, thresholds, compare_with_live)
    return {check.name: check for check in checks}


def users(mean, seed=0, size=400):
    return np.clip(np.random.default_rng(seed).normal(mean, 0.1, size), 0, 1)


BASELINES = {"popularity": users(0.2, 1), "random": users(0.05, 2)}


def test_a_good_model_passes_every_check():
    checks = make_checks({"candidate": users(0.4), "live": users(0.39, 3), **BASELINES})
    assert len(checks) == 7 and all(check.passed for check in checks.values())


@pytest.mark.parametrize(
    ("values", "failed"),
    [
        ({"candidate": users(0.08), **BASELINES}, {"recall_100, floor", "recall_100, against popularity"}),
        ({"candidate": users(0.201, 7), **BASELINES}, {"recall_100, against popularity"}),
        ({"candidate": users(0.4), "live": users(0.6, 3), **BASELINES}, {"recall_100, against live"}),
        ({"candidate": np.full(400, np.nan), **BASELINES}, None),
    ],
)
def test_a_bad_model_fails_what_it_should(values, failed):
    checks = make_checks(values)
    names = {name for name, check in checks.items() if not check.passed}
    assert names == failed if failed is not None else "recall_100, floor" in names


def test_a_slightly_worse_model_passes_within_the_tolerance():
    live = users(0.4, 3)
    checks = make_checks({"candidate": live - 0.005, "live": live, **BASELINES})
    assert checks["recall_100, against live"].passed
    checks = make_checks({"candidate": live - 0.03, "live": live, **BASELINES})
    assert not checks["recall_100, against live"].passed
    assert checks["recall_100, against live"].missed_by == pytest.approx(0.01, abs=1e-9)


def test_a_candidate_equal_to_what_is_live_is_not_compared_with_itself():
    checks = make_checks({"candidate": users(0.4), "live": users(0.4), **BASELINES}, compare_with_live=False)
    assert "recall_100, against live" not in checks


@pytest.mark.parametrize(
    ("index", "agreement", "failed"),
    [
        ({}, {"recall": 0.94}, "index recall at 500"),
        ({}, {"similar_recall": 0.94}, "item to item index recall at 500"),
        ({"latency_ms": {"p50": 21.0, "p99": 30.0}}, {}, "index latency ms"),
    ],
)
def test_a_bad_index_fails(index, agreement, failed):
    index, agreement = {**INDEX, **index}, {**AGREEMENT, **agreement}
    checks = make_checks({"candidate": users(0.4), **BASELINES}, index, agreement)
    assert [name for name, check in checks.items() if not check.passed] == [failed]


@pytest.mark.parametrize(
    ("candidate", "passed"),
    [
        (users(0.3), [True, True]),
        (BASELINES["popularity"] - 0.01, [True, True]),
        (BASELINES["popularity"] - 0.03, [False, True]),
        (BASELINES["random"] + 0.001, [False, True]),
        (BASELINES["random"], [False, False]),
        (np.full(400, np.nan), [False, False]),
    ],
)
def test_item_to_item_may_fall_a_little_behind_popularity_and_never_behind_random(candidate, passed):
    """Over the users who have a pair, whoever else there is."""
    checks = check_item_to_item(make_per_user({"candidate": candidate, **BASELINES}), THRESHOLDS)
    assert [check.name for check in checks] == [
        f"item to item recall_100, against {other}" for other in ("popularity", "random")
    ]
    assert [check.bound for check in checks] == [-0.02, 0.0]
    assert [check.passed for check in checks] == passed


@pytest.mark.parametrize("other", ["popularity", "random"])
def test_as_good_as_a_baseline_is_not_enough(other):
    """As on a catalogue of 100 items, of which every order finds all."""
    values = {"candidate": np.ones(400), "popularity": np.ones(400), "random": np.ones(400)}
    check = make_checks(values)[f"recall_100, against {other}"]
    assert check.value == 0.0 and not check.passed


def test_as_good_as_what_is_live_is_enough():
    values = {"candidate": users(0.4), "live": users(0.4), **BASELINES}
    thresholds = dataclasses.replace(THRESHOLDS, live_tolerance=0.0)
    check = make_checks(values, thresholds=thresholds)["recall_100, against live"]
    assert check.value == check.bound == 0.0 and check.passed


def test_the_bootstrap_bound_covers_as_often_as_it_says():
    """Known answer: of many samples with mean 0, about 95 % of the lower bounds lie below 0."""
    rng = np.random.default_rng(0)
    bounds = [bootstrap_lower_bound(rng.normal(0, 1, 200), 0.95, 400, seed)[1] for seed in range(300)]
    assert 0.92 < np.mean(np.array(bounds) < 0) < 0.98

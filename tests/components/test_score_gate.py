import dataclasses

import numpy as np
import pandas as pd
import pytest

from components.score_evaluation.checks import ScoreThresholds, check_scores
from components.score_evaluation.tfma_metrics import compute_score_metrics

THRESHOLDS = ScoreThresholds(
    min_auc=0.55,
    tolerances={"control": 0.005},
    live_auc_tolerance=0.01,
    max_calibration_error=0.5,
    confidence=0.95,
    bootstrap_samples=200,
)
NUM_ROWS = 8000
RNG = np.random.default_rng(0)
USERS = np.arange(NUM_ROWS) % 400
TASTE = RNG.normal(size=NUM_ROWS)
LABELS = (RNG.random(NUM_ROWS) < 1 / (1 + np.exp(1.5 - TASTE))).astype(np.int8)


def guess(noise, seed=1):
    """Probabilities that know the log-odds of a click up to noise."""
    noisy = TASTE + noise * np.random.default_rng(seed).normal(size=NUM_ROWS)
    return 1 / (1 + np.exp(1.5 - noisy / (1 + noise**2)))


GOOD, WORSE, RANDOM = guess(0.3), guess(1.0), guess(100.0)


def make_checks(compare_with_live=True, thresholds=THRESHOLDS, **models):
    scores = pd.DataFrame({"user": USERS, "request": USERS, "clicked": LABELS, **models})
    metrics = {name: {"all": compute_score_metrics(USERS, LABELS, x)} for name, x in models.items()}
    for slices in metrics.values():  # as the evaluator writes what is not defined
        slices["all"] = {key: None if np.isnan(value) else value for key, value in slices["all"].items()}
    checks = check_scores(scores, {"models": metrics}, thresholds, compare_with_live)
    return {check.name: check for check in checks}


def find_failed(checks):
    return {name for name, check in checks.items() if not check.passed}


def test_a_good_model_passes_every_check():
    checks = make_checks(candidate=GOOD, control=WORSE, teacher=GOOD, live=WORSE)
    assert list(checks) == [
        "auc, floor",
        "auc, against random",
        "auc, against control",
        "auc, against live",
        "calibration error",
    ]
    assert not find_failed(checks)


def test_a_candidate_worse_than_its_control_is_blocked():
    checks = make_checks(candidate=WORSE, control=GOOD)
    assert find_failed(checks) == {"auc, against control"}
    check = checks["auc, against control"]
    assert check.bound == -0.005 and check.value < -0.03
    assert check.missed_by == pytest.approx(-0.005 - check.value)


def test_a_candidate_worse_than_what_is_live_is_blocked_unless_it_is_what_is_live():
    models = {"candidate": WORSE, "control": WORSE, "live": GOOD}
    assert find_failed(make_checks(**models)) == {"auc, against live"}
    assert "auc, against live" not in make_checks(**models, compare_with_live=False)


def test_where_no_pre_ranking_is_live_nothing_is_compared_with_it():
    assert "auc, against live" not in make_checks(candidate=GOOD, control=WORSE)


@pytest.mark.parametrize("other", ["control", "live"])
def test_as_good_as_another_model_is_enough(other):
    models = {"candidate": GOOD, "control": GOOD, other: GOOD}
    exact = dataclasses.replace(THRESHOLDS, tolerances={"control": 0.0}, live_auc_tolerance=0.0)
    check = make_checks(thresholds=exact, **models)[f"auc, against {other}"]
    assert check.value == check.bound == 0.0 and check.passed


def test_a_difference_within_the_noise_is_held_by_its_lower_bound_and_let_through_by_a_tolerance():
    """The other is as good on other errors: the bound is below 0 by the width of the interval."""
    models = {"candidate": guess(0.3, seed=2), "control": GOOD}
    exact = make_checks(thresholds=dataclasses.replace(THRESHOLDS, tolerances={"control": 0.0}), **models)
    assert find_failed(exact) == {"auc, against control"}
    assert -0.02 < exact["auc, against control"].value < 0
    wide = make_checks(thresholds=dataclasses.replace(THRESHOLDS, tolerances={"control": 0.02}), **models)
    assert not find_failed(wide)


def test_constant_scores_have_auc_one_half_and_fail():
    checks = make_checks(candidate=np.full(NUM_ROWS, LABELS.mean()), control=RANDOM)
    assert checks["auc, floor"].value == 0.5
    assert checks["auc, against random"].value == 0.0
    assert {"auc, floor", "auc, against random"} <= find_failed(checks)


def test_random_scores_fail():
    assert {"auc, floor", "auc, against random"} <= find_failed(make_checks(candidate=RANDOM, control=RANDOM))


def test_nan_fails_every_check():
    spoiled = GOOD.copy()
    spoiled[0] = np.nan
    checks = make_checks(candidate=spoiled, control=GOOD, live=GOOD)
    assert find_failed(checks) == checks.keys()


@pytest.mark.parametrize(("factor", "passed"), [(1.4, True), (1.6, False), (0.6, True), (0.4, False)])
def test_probabilities_may_be_off_by_half(factor, passed):
    """Whatever their order."""
    calibrated = GOOD * LABELS.mean() / GOOD.mean()
    checks = make_checks(candidate=factor * calibrated, control=WORSE)
    assert checks["calibration error"].passed == passed
    assert find_failed(checks) <= {"calibration error"}

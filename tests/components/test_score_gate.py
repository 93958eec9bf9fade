"""ScoreGate in both its uses: of pre-ranking beside the control, of ranking beside pre-ranking's student."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tfx.types import standard_artifacts

from components.artifacts import GateReport
from components.flavours import CONTENT_PROPERTY, FLAVOURS, compute_content_hash, package_dir, package_folders
from components.gates import CHECKS_PROPERTY, REPORT_FILE
from components.score_evaluation.checks import ScoreThresholds, check_scores
from components.score_evaluation.evaluate import METRICS_FILE, SCORES_FILE
from components.score_evaluation.tfma_metrics import compute_score_metrics
from components.score_gate import ScoreGate

NUM_ROWS = 8000
RNG = np.random.default_rng(0)
USERS = np.arange(NUM_ROWS) % 400
TASTE = RNG.normal(size=NUM_ROWS)
LABELS = (RNG.random(NUM_ROWS) < 1 / (1 + np.exp(1.5 - TASTE))).astype(np.int8)


@pytest.fixture(params=["control", "prerank"])
def other(request):
    """What the candidate is compared with: PrerankGate's other model, and RankGate's."""
    return request.param


def make_thresholds(tolerances, **changed):
    thresholds = ScoreThresholds(
        min_auc=0.55,
        tolerances=tolerances,
        live_auc_tolerance=0.01,
        max_calibration_error=0.5,
        confidence=0.95,
        bootstrap_samples=200,
    )
    return dataclasses.replace(thresholds, **changed)


def guess(noise, seed=1):
    """Probabilities that know the log-odds of a click up to noise."""
    noisy = TASTE + noise * np.random.default_rng(seed).normal(size=NUM_ROWS)
    return 1 / (1 + np.exp(1.5 - noisy / (1 + noise**2)))


GOOD, WORSE, RANDOM = guess(0.3), guess(1.0), guess(100.0)


def make_evaluation(models):
    """Scores and metrics of models by name, as the evaluators write them."""
    scores = pd.DataFrame({"user": USERS, "request": USERS, "clicked": LABELS, **models})
    metrics = {name: {"all": compute_score_metrics(USERS, LABELS, x)} for name, x in models.items()}
    for slices in metrics.values():  # as the evaluators write what is not defined
        slices["all"] = {key: None if np.isnan(value) else value for key, value in slices["all"].items()}
    return scores, {"models": metrics}


def make_checks(thresholds, compare_with_live=True, **models):
    checks = check_scores(*make_evaluation(models), thresholds, compare_with_live)
    return {check.name: check for check in checks}


def find_failed(checks):
    return {name for name, check in checks.items() if not check.passed}


def test_a_good_model_passes_every_check(other):
    models = {"candidate": GOOD, other: WORSE, "teacher": GOOD, "live": WORSE}
    checks = make_checks(make_thresholds({other: 0.005}), **models)
    assert list(checks) == [
        "auc, floor",
        "auc, against random",
        f"auc, against {other}",
        "auc, against live",
        "calibration error",
    ]
    assert not find_failed(checks)


def test_a_candidate_worse_than_the_other_is_blocked(other):
    checks = make_checks(make_thresholds({other: 0.005}), **{"candidate": WORSE, other: GOOD})
    assert find_failed(checks) == {f"auc, against {other}"}
    check = checks[f"auc, against {other}"]
    assert check.bound == -0.005 and check.value < -0.03
    assert check.missed_by == pytest.approx(-0.005 - check.value)


def test_each_of_several_others_has_its_own_tolerance():
    models = {"candidate": WORSE, "control": GOOD, "prerank": GOOD}
    checks = make_checks(make_thresholds({"control": 0.5, "prerank": 0.005}), **models)
    assert find_failed(checks) == {"auc, against prerank"}


def test_a_candidate_worse_than_what_is_live_is_blocked_unless_it_is_what_is_live(other):
    models = {"candidate": WORSE, other: WORSE, "live": GOOD}
    thresholds = make_thresholds({other: 0.005})
    assert find_failed(make_checks(thresholds, **models)) == {"auc, against live"}
    assert "auc, against live" not in make_checks(thresholds, **models, compare_with_live=False)


def test_where_the_stage_is_not_live_nothing_is_compared_with_it(other):
    checks = make_checks(make_thresholds({other: 0.005}), **{"candidate": GOOD, other: WORSE})
    assert "auc, against live" not in checks


def test_as_good_as_another_model_is_enough(other):
    exact = make_thresholds({other: 0.0}, live_auc_tolerance=0.0)
    checks = make_checks(exact, **{"candidate": GOOD, other: GOOD, "live": GOOD})
    for name in (other, "live"):
        check = checks[f"auc, against {name}"]
        assert check.value == check.bound == 0.0 and check.passed


def test_a_difference_within_the_noise_is_held_by_its_lower_bound_and_let_through_by_a_tolerance(other):
    """The other is as good on other errors: the bound is below 0 by the width of the interval."""
    models = {"candidate": guess(0.3, seed=2), other: GOOD}
    exact = make_checks(make_thresholds({other: 0.0}), **models)
    assert find_failed(exact) == {f"auc, against {other}"}
    assert -0.02 < exact[f"auc, against {other}"].value < 0
    assert not find_failed(make_checks(make_thresholds({other: 0.02}), **models))


def test_constant_scores_have_auc_one_half_and_fail(other):
    models = {"candidate": np.full(NUM_ROWS, LABELS.mean()), other: RANDOM}
    checks = make_checks(make_thresholds({other: 0.005}), **models)
    assert checks["auc, floor"].value == 0.5
    assert checks["auc, against random"].value == 0.0
    assert {"auc, floor", "auc, against random"} <= find_failed(checks)


def test_random_scores_fail(other):
    checks = make_checks(make_thresholds({other: 0.005}), **{"candidate": RANDOM, other: RANDOM})
    assert {"auc, floor", "auc, against random"} <= find_failed(checks)


def test_nan_fails_every_check(other):
    spoiled = GOOD.copy()
    spoiled[0] = np.nan
    models = {"candidate": spoiled, other: GOOD, "live": GOOD}
    checks = make_checks(make_thresholds({other: 0.005}), **models)
    assert find_failed(checks) == checks.keys()


@pytest.mark.parametrize(("factor", "passed"), [(1.4, True), (1.6, False), (0.6, True), (0.4, False)])
def test_probabilities_may_be_off_by_half(factor, passed):
    """Whatever their order."""
    calibrated = GOOD * LABELS.mean() / GOOD.mean()
    checks = make_checks(make_thresholds({}), candidate=factor * calibrated)
    assert checks["calibration error"].passed == passed
    assert find_failed(checks) <= {"calibration error"}


@pytest.fixture
def make_artifact(tmp_path):
    def make(kind, name):
        artifact = kind()
        artifact.uri = str(tmp_path / name)
        Path(artifact.uri).mkdir()
        return artifact

    return make


@pytest.mark.parametrize("is_live", [False, True])
def test_the_component_judges_what_the_evaluator_wrote(make_artifact, other, is_live):
    """Thresholds come as JSON; what is live already is not compared with itself."""
    packages = make_artifact(standard_artifacts.Model, "packages")
    for flavour in FLAVOURS:
        folder = Path(package_dir(packages.uri, flavour))
        folder.mkdir()
        (folder / "saved_model.pb").write_text(flavour)
    live = make_artifact(standard_artifacts.Model, "live")
    content = compute_content_hash(package_folders(packages.uri)) if is_live else "another"
    live.set_string_custom_property(CONTENT_PROPERTY, content)
    evaluation = make_artifact(standard_artifacts.ModelEvaluation, "evaluation")
    scores, metrics = make_evaluation({"candidate": GOOD, other: WORSE, "live": WORSE})
    scores.to_parquet(Path(evaluation.uri, SCORES_FILE))
    Path(evaluation.uri, METRICS_FILE).write_text(json.dumps(metrics))
    report = make_artifact(GateReport, "report")
    thresholds = json.dumps(dataclasses.asdict(make_thresholds({other: 0.005})))
    ScoreGate.EXECUTOR_SPEC.executor_class().Do(
        {"packages": [packages], "live": [live], "evaluation": [evaluation]},
        {"report": [report]},
        {"thresholds": thresholds, "code_fingerprint": ""},
    )
    rows = json.loads(Path(report.uri, REPORT_FILE).read_text())["checks"]
    compared = [] if is_live else ["auc, against live"]
    names = ["auc, floor", "auc, against random", f"auc, against {other}", *compared, "calibration error"]
    assert [row["name"] for row in rows] == names and all(row["passed"] for row in rows)
    assert report.get_json_value_custom_property(CHECKS_PROPERTY) == rows

"""The reports of the stages, and the blessing that they merge into."""

import json
from pathlib import Path

import pytest
from tfx.types import standard_artifacts

from components.artifacts import GateReport
from components.flavours import CONTENT_PROPERTY, FLAVOURS, compute_content_hash, package_dir, package_folders
from components.funnel_gate import bless
from components.gates import REPORT_FILE, Check, is_live, write_gate_report

STAGES = ("retrieval", "prerank", "rank")
GOOD = Check("recall, floor", 0.3, 0.1)
BAD = Check("auc, floor", 0.5, 0.55)


@pytest.fixture
def make_artifact(tmp_path):
    def make(kind, name):
        artifact = kind()
        artifact.uri = str(tmp_path / name)
        Path(artifact.uri).mkdir()
        return artifact

    return make


@pytest.fixture
def packages(make_artifact):
    artifact = make_artifact(standard_artifacts.Model, "packages")
    for flavour in FLAVOURS:
        folder = Path(package_dir(artifact.uri, flavour))
        folder.mkdir()
        (folder / "saved_model.pb").write_text(flavour)
    return artifact


@pytest.fixture
def judge(make_artifact, packages):
    """Writes the stages' reports, blesses by them; returns the blessing and the merged report."""

    def run(**stages):
        reports = {stage: make_artifact(GateReport, stage) for stage in stages}
        for stage, checks in stages.items():
            write_gate_report(reports[stage], checks)
        blessing = make_artifact(standard_artifacts.ModelBlessing, "blessing")
        report = make_artifact(GateReport, "report")
        bless(packages, reports, blessing, report)
        return blessing, report

    return run


def read(report):
    return json.loads(Path(report.uri, REPORT_FILE).read_text())


def test_what_passes_every_check_of_every_stage_is_blessed(judge, packages):
    blessing, report = judge(**{stage: [GOOD] for stage in STAGES})
    assert blessing.get_int_custom_property("blessed") == 1
    assert [path.name for path in Path(blessing.uri).iterdir()] == ["BLESSED"]
    judged = blessing.get_string_custom_property(CONTENT_PROPERTY)
    assert judged == compute_content_hash(package_folders(packages.uri))
    assert read(report)["blessed"]
    assert [check["stage"] for check in read(report)["checks"]] == list(STAGES)


@pytest.mark.parametrize("failing", STAGES)
def test_one_failed_check_of_any_stage_blocks_and_is_named(judge, failing):
    stages = {stage: [GOOD] for stage in STAGES}
    blessing, report = judge(**{**stages, failing: [GOOD, BAD]})
    assert blessing.get_int_custom_property("blessed") == 0
    assert [path.name for path in Path(blessing.uri).iterdir()] == ["NOT_BLESSED"]
    merged = read(report)
    assert not merged["blessed"] and len(merged["checks"]) == 4
    (failed,) = [check for check in merged["checks"] if not check["passed"]]
    assert (failed["stage"], failed["name"]) == (failing, BAD.name)
    assert failed["missed_by"] == pytest.approx(0.05)


@pytest.mark.parametrize("stage", STAGES)
def test_a_check_of_nan_blocks(judge, stage):
    blessing, _ = judge(**{stage: [Check("auc, floor", float("nan"), 0.55)]})
    assert blessing.get_int_custom_property("blessed") == 0


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_without_a_check_is_no_stage_that_passed(judge, stage):
    with pytest.raises(ValueError, match=f"the {stage} gate's report has no check"):
        judge(**{**{other: [GOOD] for other in STAGES}, stage: []})


def test_equal_content_is_what_is_live(packages):
    live = standard_artifacts.Model()
    assert not is_live(packages, live)  # nothing is
    live.set_string_custom_property(CONTENT_PROPERTY, compute_content_hash(package_folders(packages.uri)))
    assert is_live(packages, live)
    (Path(package_dir(packages.uri, FLAVOURS[0])) / "saved_model.pb").write_text("another")
    assert not is_live(packages, live)


@pytest.mark.parametrize(
    ("check", "passed"),
    [
        (Check("x", 1.0, 1.0), True),
        (Check("x", 0.9, 1.0), False),
        (Check("x", 1.0, 1.0, above=True), False),
        (Check("x", 1.0, 1.0, at_most=True), True),
        (Check("x", 1.1, 1.0, at_most=True), False),
        (Check("x", float("nan"), 0.0), False),
        (Check("x", float("nan"), 0.0, at_most=True), False),
        (Check("x", float("nan"), 0.0, above=True), False),
    ],
)
def test_a_check_holds_on_its_side_of_the_bound(check, passed):
    assert check.passed == passed

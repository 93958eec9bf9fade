"""What is said of checks, and that saying it is quick."""

import subprocess
import sys

import pytest

import components
from components import artifacts
from components.report_text import describe_check


@pytest.mark.parametrize(
    ("value", "at_most", "above", "expected"),
    [
        (0.5, False, False, ("0.5000", ">= 0.2500", "passed")),
        (0.5, True, False, ("0.5000", "<= 0.2500", "FAILED by 0.2500")),
        ("NaN", False, True, ("nan", "> 0.2500", "FAILED by nan")),  # as the metadata store gives it back
    ],
)
def test_a_check_is_said_in_one_way(value, at_most, above, expected):
    passed = expected[-1] == "passed"
    missed_by = 0.0 if passed else "NaN" if value == "NaN" else 0.25
    check = {"value": value, "bound": 0.25, "at_most": at_most, "above": above}
    assert describe_check({**check, "passed": passed, "missed_by": missed_by}) == expected


def test_commands_that_only_print_import_neither_tensorflow_nor_tfx():
    code = "import sys, components.report_text; sys.exit(bool({'tensorflow', 'tfx'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_tfx_finds_the_artifacts_by_the_names_that_it_records():
    for kind in (artifacts.GateReport, artifacts.IndexReport, artifacts.ReportPage):
        package, name = kind.TYPE_NAME.split(".")
        assert package == components.__name__ and getattr(components, name) is kind

"""Imports go one way: pipelines -> components -> trainers -> schemas; sources and serving beside them."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "schemas": set(),
    "sources": {"schemas"},
    "trainers": {"schemas"},
    "components": {"trainers", "schemas", "sources"},
    "serving": {"components", "trainers", "schemas", "sources"},
    "benchmarks": {"pipelines", "components", "trainers", "schemas", "sources", "serving"},
    "pipelines": {"components", "trainers", "schemas", "sources", "serving", "benchmarks"},
}


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_go_one_way(package):
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for name in names:
                top = name.split(".")[0]
                if top in ALLOWED:
                    assert top == package or top in ALLOWED[package], f"{path}:{node.lineno} imports {name}"


@pytest.mark.parametrize("folder", ["trainers/layers", "trainers/losses"])
def test_layers_and_losses_are_pure_keras(folder):
    for path in (ROOT / folder).glob("*.py"):
        text = path.read_text()
        assert "import tfx" not in text and "from tfx" not in text, path


def test_every_package_on_disk_is_in_the_rule():
    packages = {p.parent.name for p in ROOT.glob("*/__init__.py")}
    assert packages == set(ALLOWED)


def test_answers_from_a_pushed_version_do_not_wait_for_tfx():
    code = "import sys, serving.pushed_version; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "tensorflow" in done.stdout.split() and "tfx" not in done.stdout.split()


def test_nothing_imports_tfx_by_the_module_that_imports_all_its_extensions():
    for package in ALLOWED:
        for path in (ROOT / package).rglob("*.py"):
            assert not re.search(r"tfx\.v1|from tfx import .*v1", path.read_text()), path

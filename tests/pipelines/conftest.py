"""One small world and its root, shared by the slow tests: the first run is the costly one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
CODE = ("pipelines", "components", "trainers", "schemas", "sources", "serving", "benchmarks")
CONFIG = """
splits: {eval_fraction: 0.15, test_fraction: 0.15}
retrieval: {max_epochs: 8, embedding_dim: 16, output_dim: 16, batch_size: 64, num_uniform_negatives: 256}
item_to_item: {patience_epochs: 4, embedding_dim: 16, batch_size: 64, num_uniform_negatives: 256}
index: {depth: 200}
prerank: {max_epochs: 3, embedding_dim: 16, output_dim: 16, batch_size: 256}
prerank_teacher: {embedding_dim: 16, output_dim: 16, deep_dims: [32, 16], batch_size: 256}
ranking: {max_epochs: 2, embedding_dim: 8, units: 8, attention_dims: [8], head_dims: [16], batch_size: 256}
# Repeated clicks are queries too: a world this small has few others.
gates: {min_recall_100: 0.01, live_tolerance: 0.2, bootstrap_samples: 200, exclude_seen: false,
  item_to_item_tolerance: 0.2, min_auc: 0.51, control_tolerance: 0.05, live_auc_tolerance: 0.1,
  prerank_tolerance: 0.1}
"""
# Unused names whose presence changes the syntax tree and nothing else.
EDIT = "\n\n_EDITED = 1\n"


class Workspace:
    """A copy of the project's code, an event log, a root, and `winnow` on them."""

    def __init__(self, path: Path):
        self.path = path
        self.code = path / "code"
        for package in CODE:
            shutil.copytree(ROOT / package, self.code / package, ignore=shutil.ignore_patterns("__pycache__"))
        self.config = path / "config.yaml"
        self.config.write_text(CONFIG)
        self.events = path / "events"
        self.root = path / "root"

    def command(self, *arguments):
        """How `winnow` is called: the command and its environment."""
        environment = {**os.environ, "PYTHONPATH": str(self.code)}
        return [sys.executable, "-m", "pipelines.cli", *map(str, arguments)], environment

    def winnow(self, *arguments):
        command, environment = self.command(*arguments)
        return subprocess.run(
            command, cwd=self.path, env=environment, capture_output=True, text=True, check=False, timeout=1200
        )

    def run_arguments(self, *arguments):
        paths = ("--events", self.events, "--root", self.root, "--config", self.config)
        return ("run", *paths, *arguments)

    def try_run(self, *arguments):
        """Runs the pipeline; returns the process."""
        return self.winnow(*self.run_arguments(*arguments))

    def run(self, *arguments, code=0):
        """Runs the pipeline; returns its JSON."""
        done = self.try_run("--json", *arguments)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout.strip().splitlines()[-1])

    def lineage(self, *arguments):
        """What `winnow lineage` says, as JSON."""
        done = self.winnow("lineage", "--json", "--root", self.root, *arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def edit(self, file):
        path = self.code / file
        path.write_text(path.read_text() + EDIT)

    def versions(self):
        return sorted(p.name for p in (self.root / "serving" / "retrieval_brute_force").glob("*"))


@pytest.fixture(scope="session")
def workspace(tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("run"))
    done = workspace.winnow(
        *("simulate", "--out", workspace.events, "--seed", 1, "--days", 8),
        *("--users", 300, "--items", 800, "--shops", 80, "--requests-per-user-day", 2, "--no-long-tail"),
    )
    assert done.returncode == 0, done.stderr
    # The last day arrives later.
    last = sorted(workspace.events.glob("impressions/*"))[-1]
    shutil.move(last, workspace.path / last.name)
    return workspace


@pytest.fixture(scope="session")
def first(workspace):
    return workspace.run()

"""`winnow run` as a user calls it: what is pushed, what is blocked, and which nodes run again when.

The tests of this file share one root and go in order: each says which nodes a change makes run.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent.parent
CODE = ("pipelines", "components", "trainers", "schemas", "sources", "serving", "benchmarks")
CONFIG = """
splits: {eval_fraction: 0.15, test_fraction: 0.15}
retrieval: {max_epochs: 8, embedding_dim: 16, output_dim: 16, batch_size: 64, num_uniform_negatives: 256}
item_to_item: {patience_epochs: 4, embedding_dim: 16, batch_size: 64, num_uniform_negatives: 256}
index: {depth: 200}
# Repeated clicks are queries too: a world this small has few others.
gates: {min_recall_100: 0.01, live_tolerance: 0.2, bootstrap_samples: 200, exclude_seen: false,
  item_to_item_tolerance: 0.2}
"""
TRAINING = {"RetrievalTrainer", "ItemToItemTrainer", "IndexBuilder"}
JUDGING = {"RetrievalEvaluator", "RetrievalGate", "Pusher"}
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

    def winnow(self, *arguments):
        environment = {**os.environ, "PYTHONPATH": str(self.code)}
        command = [sys.executable, "-m", "pipelines.cli", *map(str, arguments)]
        return subprocess.run(
            command, cwd=self.path, env=environment, capture_output=True, text=True, check=False, timeout=1200
        )

    def try_run(self, *arguments):
        """Runs the pipeline; returns the process."""
        paths = ("--events", self.events, "--root", self.root, "--config", self.config)
        return self.winnow("run", *paths, *arguments)

    def run(self, *arguments, code=0):
        """Runs the pipeline; returns its JSON."""
        done = self.try_run("--json", *arguments)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout.strip().splitlines()[-1])

    def edit(self, file):
        path = self.code / file
        path.write_text(path.read_text() + EDIT)

    def versions(self):
        return sorted(p.name for p in (self.root / "serving" / "retrieval_brute_force").glob("*"))


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def first(workspace):
    return workspace.run()


def ran(result):
    return {node for node, state in result["nodes"].items() if state == "done"}


def test_the_first_run_runs_everything_and_pushes(workspace, first):
    assert set(first["nodes"].values()) == {"done"}
    assert first["verdict"] == "pushed" and all(check["passed"] for check in first["checks"])
    assert workspace.versions() == [first["live_version"]]
    models = first["metrics"]["models"]
    assert models["candidate"]["all"]["recall_100"] > models["popularity"]["all"]["recall_100"]
    assert first["metrics"]["item_to_item"]["num_queries"] < first["metrics"]["num_queries"]
    names = {f"item to item recall_100, against {other}" for other in ("popularity", "random")}
    assert names <= {check["name"] for check in first["checks"]}


def test_nothing_changed_trains_nothing_and_pushes_nothing(workspace, first):
    second = workspace.run()
    # What is live has changed, from nothing to the candidate itself.
    assert ran(second) <= {"LiveModel", *JUDGING}
    assert second["verdict"] == "already live" and workspace.versions() == [first["live_version"]]
    third = workspace.run()
    assert ran(third) == set() and third["verdict"] == "already live"


def test_a_changed_gate_threshold_judges_again_and_can_block(workspace, first):
    config = workspace.config.read_text()
    workspace.config.write_text(config.replace("min_recall_100: 0.01", "min_recall_100: 0.98"))
    blocked = workspace.run(code=1)
    assert ran(blocked) == {"RetrievalGate", "Pusher"}
    assert blocked["verdict"] == "blocked" and blocked["live_version"] == first["live_version"]
    (failed,) = [check for check in blocked["checks"] if not check["passed"]]
    assert failed["name"] == "recall_100, floor"
    assert failed["missed_by"] == pytest.approx(0.98 - failed["value"])
    workspace.config.write_text(config)


def test_a_blocked_push_says_which_gate_and_by_how_much(workspace):
    config = workspace.config.read_text()
    workspace.config.write_text(config.replace("min_recall_100: 0.01", "min_recall_100: 0.98"))
    done = workspace.winnow(
        "run", "--events", workspace.events, "--root", workspace.root, "--config", workspace.config
    )
    workspace.config.write_text(config)
    assert done.returncode == 1
    assert "Not pushed: recall_100, floor (missed by 0." in done.stdout
    assert "Traceback" not in done.stderr


def test_recommend_and_similar_answer_from_the_pushed_version(workspace, first):
    for flavour in ("brute_force", "scann"):
        done = workspace.winnow(
            *("recommend", "--user", "u000001", "--k", 5, "--exclude-seen", "--json"),
            *("--root", workspace.root, "--flavour", flavour),
        )
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert answer["version"] == first["live_version"] and answer["known"]
        scores = [item["score"] for item in answer["items"]]
        assert len(scores) == 5 and scores == sorted(scores, reverse=True)
        assert all(item["title"] for item in answer["items"])
    stranger = workspace.winnow("recommend", "--user", "nobody", "--json", "--root", workspace.root)
    assert stranger.returncode == 0 and "nobody is not in" in stranger.stderr
    assert json.loads(stranger.stdout)["clicks"] == 0
    alike = workspace.winnow("similar", "--item", "i000001", "--json", "--root", workspace.root)
    assert "i000001" not in [item["item_id"] for item in json.loads(alike.stdout)["items"]]
    unknown = workspace.winnow("similar", "--item", "no-such-item", "--root", workspace.root)
    assert unknown.returncode == 2 and "no-such-item" in unknown.stderr


def test_a_part_of_the_nodes_runs_and_pushes_nothing(workspace, first):
    part = workspace.run("--to", "Transform")
    assert part["verdict"] == "partial" and part["nodes"]["RetrievalTrainer"] == "skipped"
    assert workspace.versions() == [first["live_version"]]


def test_recommend_stays_with_the_log_of_what_is_live(workspace, first):
    """Whatever log a run that pushed nothing has ingested since."""
    other = workspace.path / "other"
    sizes = ("--users", 20, "--items", 100, "--shops", 60, "--days", 3)
    assert workspace.winnow("simulate", "--out", other, *sizes).returncode == 0
    done = workspace.winnow(
        *("run", "--events", other, "--root", workspace.root, "--config", workspace.config),
        *("--to", "EventIngest"),
    )
    assert done.returncode == 0, done.stderr
    done = workspace.winnow("recommend", "--user", "u000250", "--json", "--root", workspace.root)
    answer = json.loads(done.stdout)
    assert answer["known"] and answer["version"] == first["live_version"]
    assert all(item["title"] for item in answer["items"])


def test_an_unknown_node_is_refused_with_the_nearest(workspace):
    done = workspace.try_run("--to", "Tranform")
    assert done.returncode == 2 and "Did you mean 'Transform'" in done.stderr


def test_an_edited_trainer_runs_what_depends_on_it(workspace):
    workspace.edit("trainers/retrieval/train.py")
    result = workspace.run()
    assert ran(result) == {*TRAINING, *JUDGING}


def test_a_changed_item_to_item_setting_trains_that_model_alone(workspace):
    config = workspace.config.read_text()
    workspace.config.write_text(config.replace("patience_epochs: 4", "patience_epochs: 5"))
    result = workspace.run()
    assert ran(result) - {"LiveModel"} == {"ItemToItemTrainer", "IndexBuilder", *JUDGING}
    workspace.config.write_text(config)


def test_an_edited_preprocessing_runs_what_depends_on_it(workspace):
    workspace.edit("trainers/preprocessing.py")
    result = workspace.run()
    assert ran(result) - {"LiveModel"} == {"Transform", *TRAINING, *JUDGING}


def test_a_new_day_of_events_runs_everything_but_the_schemas(workspace):
    before = workspace.versions()
    (day,) = workspace.path.glob("date=*")
    shutil.move(day, workspace.events / "impressions" / day.name)
    result = workspace.run()
    cached = {node for node, state in result["nodes"].items() if state == "cached"}
    assert {"ImpressionSchema", "PageSchema", "ItemSchema"} <= cached
    assert ran(result) >= {
        "EventIngest",
        "ImpressionStatistics",
        "AnomalyGate",
        "Transform",
        *TRAINING,
        *JUDGING,
    }
    assert result["verdict"] == "pushed" and len(workspace.versions()) == len(before) + 1
    assert "live" in result["metrics"]["models"]


def test_an_anomaly_stops_the_run_before_anything_is_trained(workspace):
    schema = workspace.code / "schemas" / "marketplace" / "item.pbtxt"
    text = schema.read_text()
    # The curated schema now says that every price lies under 1.
    schema.write_text(text.replace('name: "price"', 'float_domain { min: 0.0 max: 1.0 }\n  name: "price"', 1))
    before = workspace.versions()
    done = workspace.winnow(
        "run", "--events", workspace.events, "--root", workspace.root, "--config", workspace.config
    )
    schema.write_text(text)
    assert done.returncode == 1 and workspace.versions() == before
    assert "AnomalyGate failed" in done.stderr and "feature price" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_truncated_day_fails_by_name_and_leaves_what_is_live(workspace):
    before = workspace.versions()
    path = sorted(workspace.events.glob("impressions/*/*.parquet"))[0]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    done = workspace.winnow(
        "run", "--events", workspace.events, "--root", workspace.root, "--config", workspace.config
    )
    path.write_bytes(content)
    assert done.returncode == 1 and workspace.versions() == before
    assert path.parent.name in done.stderr and "Traceback" not in done.stderr
    # The failure left nothing that the next run would take for a result.
    assert workspace.run()["verdict"] == "already live"

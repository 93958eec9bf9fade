"""Bad input to `winnow run`: one clear line, the right exit code, and nothing written."""

import subprocess
import sys
from pathlib import Path

import pytest

from sources.marketplace import MarketplaceConfig, simulate

ROOT = Path(__file__).resolve().parent.parent.parent


def run(*arguments):
    command = [sys.executable, "-m", "pipelines.cli", "run", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "events"
    simulate(MarketplaceConfig(num_users=20, num_items=100, num_shops=60, num_days=3), path)
    return path


def refused(result, *words):
    assert result.returncode == 1
    assert "Traceback" not in result.stderr and result.stdout == ""
    for word in words:
        assert str(word) in result.stderr


def test_no_such_event_log(tmp_path):
    refused(
        run("--events", tmp_path / "none", "--root", tmp_path / "root"), tmp_path / "none", "winnow simulate"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_day_without_a_file(tmp_path, events):
    folder = events / "impressions" / "date=2024-02-01"
    folder.mkdir()
    result = run("--events", events, "--root", tmp_path / "root")
    folder.rmdir()
    refused(result, folder, "holds no .parquet file")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_config_key(tmp_path, events):
    config = tmp_path / "config.yaml"
    config.write_text("retrieval: {temprature: 0.1}")
    result = run("--events", events, "--root", tmp_path / "root", "--config", config)
    refused(result, config, "retrieval.temprature", "Did you mean 'temperature'")
    assert list(tmp_path.iterdir()) == [config]


@pytest.mark.parametrize("place", ["a file", "below a file"])
def test_a_root_that_cannot_be_written(tmp_path, events, place):
    blocker = tmp_path / "file"
    blocker.write_text("")
    root = blocker if place == "a file" else blocker / "root"
    refused(run("--events", events, "--root", root), f"--root {root}", "cannot be written")
    assert list(tmp_path.iterdir()) == [blocker]

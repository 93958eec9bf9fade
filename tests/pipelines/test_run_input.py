"""What `winnow run` refuses: one clear line, the right exit code, and nothing written."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.root_lock import LOCK_FILE, lock_root
from sources.marketplace import MarketplaceConfig, simulate

ROOT = Path(__file__).resolve().parent.parent.parent


def run(*arguments):
    command = [sys.executable, "-m", "pipelines.cli", "run", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "events"
    simulate(MarketplaceConfig(num_users=20, num_items=100, num_shops=60, num_days=4), path)
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


def test_a_schema_that_is_no_longer_there(tmp_path, events):
    manifest = events / "event_log.json"
    content = manifest.read_text()
    manifest.write_text(content.replace('"marketplace"', f'"{tmp_path}/moved"'))
    result = run("--events", events, "--root", tmp_path / "root")
    manifest.write_text(content)
    refused(result, tmp_path / "moved", "no such folder")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_config_key(tmp_path, events):
    config = tmp_path / "config.yaml"
    config.write_text("retrieval: {temprature: 0.1}")
    result = run("--events", events, "--root", tmp_path / "root", "--config", config)
    refused(result, config, "retrieval.temprature", "Did you mean 'temperature'")
    assert list(tmp_path.iterdir()) == [config]


def test_an_unknown_feature_group(tmp_path, events):
    config = tmp_path / "config.yaml"
    config.write_text("item_to_item: {disabled_groups: [tyme]}")
    result = run("--events", events, "--root", tmp_path / "root", "--config", config)
    refused(result, "item_to_item.disabled_groups", "'tyme'", "Did you mean 'time'", "crosses")


@pytest.mark.parametrize("place", ["a file", "below a file"])
def test_a_root_that_cannot_be_written(tmp_path, events, place):
    blocker = tmp_path / "file"
    blocker.write_text("")
    root = blocker if place == "a file" else blocker / "root"
    refused(run("--events", events, "--root", root), f"--root {root}", "cannot be written")
    assert list(tmp_path.iterdir()) == [blocker]


def wait_for_lock(process, root):
    """Waits until a run has locked the root, and stops it there."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if (root / LOCK_FILE).exists() and (root / LOCK_FILE).read_text() == str(process.pid):
            process.send_signal(signal.SIGSTOP)
            return
        time.sleep(0.02)
    process.kill()
    pytest.fail(f"no lock: {process.communicate()[1]}")


def test_two_runs_on_one_root(tmp_path, events):
    """The second is refused, whatever it was asked; a run that was killed leaves the root free."""
    root = tmp_path / "root"
    command = [sys.executable, "-m", "pipelines.cli", "run", "--events", str(events), "--root", str(root)]
    for _ in range(2):  # the second time on a root whose last run was killed
        first = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            wait_for_lock(first, root)
            before = sorted(root.rglob("*"))
            for arguments in (["--events", events], []):  # without a log one would be simulated first
                result = run("--root", root, *arguments)
                refused(result, f"--root {root}", f"process {first.pid}", "choose another --root")
            assert sorted(root.rglob("*")) == before
        finally:
            first.kill()
            first.communicate()


def test_a_run_that_fails_lets_go_of_its_root(tmp_path):
    with pytest.raises(ZeroDivisionError), lock_root(tmp_path):
        raise ZeroDivisionError
    code = (
        "from pathlib import Path; from pipelines.root_lock import lock_root\n"
        f"with lock_root(Path({str(tmp_path)!r})): print('locked')"
    )
    command = [sys.executable, "-c", code]
    for _ in range(2):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout == "locked\n"

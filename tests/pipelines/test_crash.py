"""SIGKILL in the middle of a node: the next run completes, and the root is as if nothing had happened."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.orchestration.metadata import sqlite_metadata_connection_config

from components.flavours import FLAVOURS, compute_content_hash, live_folders, model_dir

pytestmark = pytest.mark.slow


def kill_once_there_is(workspace, pattern):
    """Starts a run and kills it as soon as it has made a new file of a pattern below the root."""
    before = set(workspace.root.glob(pattern))
    command, environment = workspace.command(*workspace.run_arguments())
    with subprocess.Popen(
        command, cwd=workspace.path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        while process.poll() is None and not set(workspace.root.glob(pattern)) - before:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, process.stderr.read().decode()


def kill_in_pusher(workspace, line):
    """Runs, and kills the Pusher as soon as it has done a line of its code."""
    pusher = workspace.code / "components" / "version_pusher.py"
    text = pusher.read_text()
    assert text.count(f"{line}\n") == 1
    indent = line[: -len(line.lstrip())]
    pusher.write_text(text.replace(line, f"{line}\n{indent}os.kill(os.getpid(), {signal.SIGKILL:d})"))
    assert workspace.try_run().returncode == -signal.SIGKILL
    pusher.write_text(text)
    assert find_interrupted(workspace.root) == {"winnow.Pusher"}


def find_interrupted(root, kind="node"):
    """The names of the nodes that have no end, in ML Metadata; or of other contexts of theirs."""
    store = MetadataStore(sqlite_metadata_connection_config(str(root / "metadata.sqlite")))
    running = (mlmd.Execution.NEW, mlmd.Execution.RUNNING)
    return {
        context.name
        for execution in store.get_executions()
        if execution.last_known_state in running
        for context in store.get_contexts_by_execution(execution.id)
        if context.type == kind
    }


def check_whole(root):
    """Nothing half written, nothing twice, nothing lost."""
    assert find_interrupted(root) == set()
    store = MetadataStore(sqlite_metadata_connection_config(str(root / "metadata.sqlite")))
    artifacts = [x for x in store.get_artifacts() if x.state == mlmd.Artifact.LIVE]
    known = [Path(artifact.uri) for artifact in artifacts]
    assert len(known) == len(set(known))
    assert all(path.exists() for path in known)
    on_disk = {p for p in (root / "artifacts").glob("*/[!.]*/*") if p.is_dir()}
    assert on_disk <= set(known)
    serving = root / "serving"
    assert [p.name for p in serving.glob(".*")] == []
    versions, other = ({p.name for p in model_dir(serving, flavour).iterdir()} for flavour in FLAVOURS)
    assert versions == other
    hashes = [compute_content_hash(live_folders(serving, version)) for version in versions]
    assert len(hashes) == len(set(hashes))


@pytest.fixture(scope="module", autouse=True)
def _another_candidate(workspace, first):
    config = workspace.config.read_text()
    workspace.config.write_text(config.replace("retrieval: {", "retrieval: {seed: 3, "))
    yield
    workspace.config.write_text(config)


def test_runs_killed_in_the_middle_of_three_nodes(workspace):
    before = workspace.versions()
    ingest = workspace.code / "components" / "event_ingest" / "ingest.py"
    text = ingest.read_text()
    workspace.edit(ingest)
    kill_once_there_is(workspace, "artifacts/EventIngest/impressions/*/*")
    assert find_interrupted(workspace.root) == {"winnow.EventIngest"}
    assert workspace.run("--to", "EventIngest")["nodes"]["EventIngest"] == "done"
    check_whole(workspace.root)
    ingest.write_text(text)  # else all that follows would be trained again

    kill_once_there_is(workspace, "artifacts/RetrievalTrainer/model_run/**/events.out*")
    assert find_interrupted(workspace.root) == {"winnow.RetrievalTrainer"}

    # Between the two renames: one flavour has the version, the other has not.
    kill_in_pusher(workspace, "            os.rename(staging, target)")
    assert workspace.versions() == before
    assert len(os.listdir(model_dir(workspace.root / "serving", "scann"))) == len(before) + 1

    # The version is live, and ML Metadata has not been told.
    kill_in_pusher(workspace, "        mark_pushed(pushed, serving_dir, version)")
    *earlier, pushed = workspace.versions()
    assert earlier == before
    (killed_run,) = find_interrupted(workspace.root, "pipeline_run")

    result = workspace.run()
    assert result["verdict"] == "already live" and result["live_version"] == pushed
    # What the killed runs had finished is not done again; what is live has changed since.
    judging = {
        f"{stage}{kind}" for stage in ("Retrieval", "Prerank", "Rank") for kind in ("Evaluator", "Gate")
    }
    judging |= {"LiveModel", "FunnelGate", "Pusher", "RunReport"}
    assert {node for node, state in result["nodes"].items() if state == "done"} == judging
    assert workspace.versions() == [*before, pushed]
    check_whole(workspace.root)
    lineage = workspace.lineage()
    assert lineage["version"] == lineage["live_version"] == pushed
    assert {x["node"] for x in lineage["executions"]} == set(result["nodes"]) - {"RunReport"}
    (focus,) = [artifact for artifact in lineage["artifacts"] if artifact["id"] == lineage["focus"]]
    (pusher,) = [execution for execution in lineage["executions"] if execution["id"] == focus["maker"]]
    assert (pusher["node"], pusher["run"]) == ("Pusher", killed_run)
    assert max(execution["run"] for execution in lineage["executions"]) == killed_run  # none of the last run
    answer = workspace.winnow("recommend", "--user", "u000001", "--root", workspace.root, "--json")
    assert answer.returncode == 0 and result["live_version"] in answer.stdout


def test_a_lost_artifact_is_made_again(workspace):
    """And nothing but what has need of it."""
    folders = (workspace.root / "artifacts" / "IndexBuilder" / "packages").iterdir()
    max(folders, key=lambda path: int(path.name)).rename(workspace.path / "lost")
    result = workspace.run()
    ran = {node for node, state in result["nodes"].items() if state == "done"}
    assert "IndexBuilder" in ran and not ran & {"EventIngest", "Transform", "RetrievalTrainer"}
    check_whole(workspace.root)


def test_what_was_live_and_lost_is_pushed_again(workspace):
    """Nothing is live without a flavour; what is left of the others stays."""
    before = workspace.versions()
    folder = model_dir(workspace.root / "serving", "scann")
    folder.rename(workspace.path / "lost_flavour")
    done = workspace.try_run("--json")
    assert done.returncode == 0, done.stderr
    assert f"{folder / before[-1]}: gone" in done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["verdict"] == "pushed" and workspace.versions() == [*before, result["live_version"]]
    for version in (workspace.path / "lost_flavour").iterdir():
        version.rename(folder / version.name)
    assert find_interrupted(workspace.root) == set()

"""A root that a killed run has left: what had begun is gone, what was lost is made again, the rest stays."""

import os
import shutil

import pytest
from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.orchestration.metadata import sqlite_metadata_connection_config

from components.flavours import FLAVOURS, live_folders
from components.version_pusher import VERSION_FILE
from pipelines.lineage_reader import read_version_lineage
from pipelines.paths import RunPaths
from pipelines.recovery import LiveVersionError, recover
from pipelines.run_metadata import RunMetadataError

DONE, RUNNING = mlmd.Execution.COMPLETE, mlmd.Execution.RUNNING


@pytest.fixture
def paths(tmp_path):
    return RunPaths(tmp_path)


class Store:
    """A store with nodes named as TFX names them."""

    def __init__(self, paths):
        self.artifacts = paths.artifacts
        self.store = MetadataStore(sqlite_metadata_connection_config(str(paths.metadata)))
        self.execution_type = self.store.put_execution_type(mlmd.ExecutionType(name="T"))
        self.artifact_type = self.store.put_artifact_type(mlmd.ArtifactType(name="A"))
        self.contexts = {}

    def _context(self, kind, name):
        if name not in self.contexts:
            type_id = self.store.put_context_type(mlmd.ContextType(name=kind))
            (self.contexts[name],) = self.store.put_contexts([mlmd.Context(type_id=type_id, name=name)])
        return self.contexts[name]

    def run(self, node, state):
        """An execution with what TFX writes for it; returns its id and its output."""
        (execution,) = self.store.put_executions(
            [mlmd.Execution(type_id=self.execution_type, last_known_state=state)]
        )
        contexts = [self._context("node", f"winnow.{node}"), self._context("pipeline_run", "r1")]
        self.store.put_attributions_and_associations(
            [], [mlmd.Association(context_id=context, execution_id=execution) for context in contexts]
        )
        output = self.artifacts / node / "model" / str(execution)
        for folder in (output, self.artifacts / node / ".system" / "executor_execution" / str(execution)):
            folder.mkdir(parents=True)
            (folder / "file").touch()
        if state == DONE:
            self.store.put_artifacts(
                [mlmd.Artifact(type_id=self.artifact_type, uri=str(output), state=mlmd.Artifact.LIVE)]
            )
        return execution, output


def test_what_a_killed_run_had_begun_is_gone_and_counted_as_failed(paths):
    store = Store(paths)
    done, kept = store.run("Trainer", DONE)
    killed, begun = store.run("Trainer", RUNNING)
    other, kept_too = store.run("Pusher", DONE)
    working = paths.artifacts / "Trainer" / ".system" / "stateful_working_dir" / "x"
    working.mkdir(parents=True)

    for _ in range(2):  # the second time there is nothing to do
        recover(paths)
        states = {x.id: x.last_known_state for x in store.store.get_executions()}
        assert states == {done: DONE, killed: mlmd.Execution.FAILED, other: DONE}
        assert kept.is_dir() and kept_too.is_dir() and not begun.exists() and not working.exists()
        left = {p.name for p in (paths.artifacts / "Trainer" / ".system" / "executor_execution").iterdir()}
        assert left == {str(done)}
        assert {x.state for x in store.store.get_artifacts()} == {mlmd.Artifact.LIVE}


def test_what_was_lost_counts_as_deleted(paths):
    store = Store(paths)
    _, kept = store.run("Trainer", DONE)
    _, lost = store.run("Trainer", DONE)
    (lost / "file").unlink()
    lost.rmdir()
    recover(paths)
    states = {x.uri: x.state for x in store.store.get_artifacts()}
    assert states == {str(kept): mlmd.Artifact.LIVE, str(lost): mlmd.Artifact.DELETED}


def test_staged_copies_are_gone(paths):
    kept = [paths.serving / "retrieval_scann" / "3", paths.serving / "notes"]
    gone = [paths.serving / ".retrieval_scann-1a2b.tmp", paths.root / ".events.1a2b.tmp"]
    for folder in (*kept, *gone):
        folder.mkdir(parents=True)
        (folder / "file").touch()
    recover(paths)
    assert all(folder.is_dir() for folder in kept) and not any(folder.exists() for folder in gone)


@pytest.fixture
def pushed(paths):
    """A root with version 700 pushed; its store and the PushedModel's artifact."""
    store, _, output = start_push(paths, "700", FLAVOURS)
    recover(paths)
    return store, output


def read_state(store):
    return [x.state for x in store.get_artifacts()]


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("earlier", [False, True])
def test_a_version_that_lost_a_flavour_may_be_pushed_again(paths, pushed, flavour, earlier):
    """And what is left of it stays: it may be all that is served."""
    store, _ = pushed
    if earlier:
        for folder in live_folders(paths.serving, "600").values():
            folder.mkdir(parents=True)
    folders = live_folders(paths.serving, "700")
    shutil.rmtree(folders[flavour])
    assert any("700" in line and flavour in line for line in recover(paths))
    assert read_state(store) == [mlmd.Artifact.DELETED]
    assert [x.is_dir() for name, x in folders.items() if name != flavour] == [True]
    assert recover(paths) == []


def test_a_live_version_that_changed_is_named(paths, pushed):
    store, _ = pushed
    folders = live_folders(paths.serving, "700")
    assert recover(paths) == []
    file = folders[FLAVOURS[0]] / "saved_model.pb"
    file.touch()
    with pytest.raises(LiveVersionError, match=f"{folders[FLAVOURS[0]]}.*changed since they were pushed"):
        recover(paths)
    staged = paths.serving / ".retrieval_scann-1a2b.tmp"
    staged.mkdir()
    with pytest.raises(LiveVersionError):
        recover(paths)
    assert not staged.exists()
    file.unlink()
    assert recover(paths) == []
    assert read_state(store) == [mlmd.Artifact.LIVE]


def test_a_version_of_another_origin_is_nobodys_business(paths, pushed):
    for folder in live_folders(paths.serving, "800").values():
        folder.mkdir(parents=True)
        (folder / "saved_model.pb").touch()
    assert recover(paths) == []


def test_a_damaged_store_is_named(paths):
    paths.metadata.write_text("garbage")
    with pytest.raises(RunMetadataError, match="metadata.sqlite: not a readable ML Metadata store"):
        recover(paths)


def start_push(paths, version, flavours):
    """A Pusher that was killed while it pushed a version; returns its execution and its output."""
    store = Store(paths)
    execution, output = store.run("Pusher", RUNNING)
    (output / VERSION_FILE).write_text(version)
    for flavour in flavours:
        live_folders(paths.serving, version)[flavour].mkdir(parents=True)
    return store.store, execution, output


def test_a_push_that_was_done_is_recorded_as_the_one_it_was(paths):
    store, execution, output = start_push(paths, "700", FLAVOURS)
    (started,) = store.get_executions()
    pushed_at = started.create_time_since_epoch / 1000 + 90  # the run was killed 90 s after it had begun
    os.utime(output / VERSION_FILE, (pushed_at, pushed_at))

    for _ in range(2):  # the second time there is nothing to do
        recover(paths)
        (artifact,) = store.get_artifacts()
        assert artifact.uri == str(output) and output.is_dir() and artifact.state == mlmd.Artifact.LIVE
        lineage = read_version_lineage(paths.metadata)
        assert lineage.version == lineage.live_version == "700"
        assert lineage.artifacts[lineage.focus].name == "model"  # the folder's
        assert lineage.artifacts[lineage.focus].properties["pushed_destination"] == str(paths.serving)
        assert lineage.artifacts[lineage.focus].created_at.timestamp() == pytest.approx(pushed_at, abs=0.01)
        (pusher,) = lineage.executions.values()
        assert (pusher.id, pusher.node, pusher.run) == (execution, "Pusher", "r1")
        assert pusher.seconds == pytest.approx(90, abs=0.01)


@pytest.mark.parametrize("flavours", [(), FLAVOURS[1:]])
def test_a_push_that_was_not_done_is_not_recorded(paths, flavours):
    store, _, output = start_push(paths, "700", flavours)
    for flavour in FLAVOURS:  # and an earlier one was
        live_folders(paths.serving, "600")[flavour].mkdir(parents=True)
    recover(paths)
    (execution,) = store.get_executions()
    assert execution.last_known_state == mlmd.Execution.FAILED
    assert store.get_artifacts() == [] and not output.exists()
    with pytest.raises(RunMetadataError, match="no run has pushed a version yet"):
        read_version_lineage(paths.metadata)
    assert {p.name for p in paths.serving.glob("*/*")} == {"600"}


def test_a_new_root_is_in_order(paths):
    recover(paths)
    assert list(paths.root.iterdir()) == []

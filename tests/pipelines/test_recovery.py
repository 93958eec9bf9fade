"""A root that a killed run has left: what had begun is gone, what was lost is made again, the rest stays."""

import pytest
from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.v1.orchestration.metadata import sqlite_metadata_connection_config

from pipelines.paths import RunPaths
from pipelines.recovery import recover

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
        self.node_type = self.store.put_context_type(mlmd.ContextType(name="node"))
        self.nodes = {}

    def run(self, node, state):
        """An execution with what TFX writes for it; returns its id and its output."""
        (execution,) = self.store.put_executions(
            [mlmd.Execution(type_id=self.execution_type, last_known_state=state)]
        )
        context = self.nodes.get(node)
        if context is None:
            (context,) = self.store.put_contexts(
                [mlmd.Context(type_id=self.node_type, name=f"winnow.{node}")]
            )
            self.nodes[node] = context
        self.store.put_attributions_and_associations(
            [], [mlmd.Association(context_id=context, execution_id=execution)]
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


def test_staged_copies_and_half_a_push_are_gone(paths):
    exact, scann = (paths.serving / f"retrieval_{flavour}" for flavour in ("brute_force", "scann"))
    kept = [exact / "5", scann / "5", scann / "3", exact / "notes"]
    gone = [scann / "7", paths.serving / ".retrieval_scann-1a2b.tmp", paths.root / ".events.1a2b.tmp"]
    for folder in (*kept, *gone):
        folder.mkdir(parents=True)
        (folder / "file").touch()
    recover(paths)
    assert all(folder.is_dir() for folder in kept) and not any(folder.exists() for folder in gone)


def test_a_new_root_is_in_order(paths):
    recover(paths)
    assert list(paths.root.iterdir()) == []

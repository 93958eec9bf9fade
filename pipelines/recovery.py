"""Puts a root in order after a run that was killed: nothing half written stays, nothing lost is reused."""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.orchestration.portable.mlmd import event_lib
from tfx.types.artifact import ArtifactState
from tfx.v1.orchestration.metadata import sqlite_metadata_connection_config
from tfx.v1.types.standard_artifacts import PushedModel

from components.index_builder.build import FLAVOURS
from components.live_model import find_live_version, model_dir
from components.version_pusher import VERSION_FILE, mark_pushed
from pipelines.paths import RunPaths

_NODE_CONTEXT = "node"
_STAGING = ".*.tmp"


def recover(paths: RunPaths) -> None:
    """Fails the executions that a killed run left running and removes what they had begun; the log says so.

    Also removes staged copies and versions pushed in one flavour alone, and tells ML Metadata of a push that
    was done and not recorded, and of artifacts whose files are gone, so that TFX makes them again instead of
    taking them for cached.

    Args:
      paths: a root that no run is at work in: hold its lock.
    """
    unfinished = [
        *paths.root.glob(_STAGING),
        *paths.serving.glob(_STAGING),
        *_find_half_pushed(paths.serving),
    ]
    if paths.metadata.exists():
        store = MetadataStore(sqlite_metadata_connection_config(str(paths.metadata)))
        unfinished += _end_interrupted(store, paths)
        _mark_lost(store, paths.artifacts)
    for path in unfinished:
        logging.warning("removing %s: left unfinished by an interrupted run", path)
        shutil.rmtree(path)


def _find_half_pushed(serving: Path) -> Iterator[Path]:
    """Versions newer than what is live: a push renames its flavours one by one."""
    live = int(find_live_version(serving) or 0)
    for flavour in FLAVOURS:
        for path in model_dir(serving, flavour).glob("*"):
            if path.name.isdecimal() and int(path.name) > live:
                yield path


def _end_interrupted(store: MetadataStore, paths: RunPaths) -> list[Path]:
    """Marks executions without an end as failed, or as complete if they had pushed.

    Returns:
      what they have left over.
    """
    left: list[Path] = []
    live = find_live_version(paths.serving)
    for execution in store.get_executions():
        if execution.last_known_state not in (mlmd.Execution.NEW, mlmd.Execution.RUNNING):
            continue
        contexts = store.get_contexts_by_execution(execution.id)
        (node,) = (context.name.split(".")[-1] for context in contexts if context.type == _NODE_CONTEXT)
        folder = paths.artifacts / node
        for pattern in (f".system/*/{execution.id}", ".system/stateful_working_dir/*"):
            left += folder.glob(pattern)
        version_file = next(folder.glob(f"*/{execution.id}/{VERSION_FILE}"), None)
        if live and version_file is not None and version_file.read_text(encoding="utf-8") == live:
            _record_push(store, execution, version_file, paths.serving)
            logging.warning("%s was interrupted (execution %d), but had pushed %s", node, execution.id, live)
        else:
            execution.last_known_state = mlmd.Execution.FAILED
            store.put_executions([execution])
            logging.warning("%s was interrupted (execution %d)", node, execution.id)
            left += folder.glob(f"*/{execution.id}")
    return left


def _record_push(store: MetadataStore, execution: mlmd.Execution, version_file: Path, serving: Path) -> None:
    """Ends an execution as TFX ends a Pusher's; the event has the time of the push, not of this record."""
    pushed = PushedModel()
    pushed.uri = str(version_file.parent)
    pushed.type_id = store.put_artifact_type(pushed.artifact_type)
    pushed.state = ArtifactState.PUBLISHED
    mark_pushed(pushed, str(serving), version_file.read_text(encoding="utf-8"))
    event = event_lib.generate_event(mlmd.Event.OUTPUT, version_file.parent.parent.name, 0)
    event.milliseconds_since_epoch = int(version_file.stat().st_mtime * 1000)
    execution.last_known_state = mlmd.Execution.COMPLETE
    contexts = store.get_contexts_by_execution(execution.id)
    store.put_execution(execution, [(pushed.mlmd_artifact, event)], contexts, force_reuse_context=True)


def _mark_lost(store: MetadataStore, artifacts: Path) -> None:
    lost = [
        artifact
        for artifact in store.get_artifacts()
        if artifact.state == mlmd.Artifact.LIVE
        and artifacts in Path(artifact.uri).parents
        and not Path(artifact.uri).exists()
    ]
    for artifact in lost:
        logging.warning("%s: lost; what made it will run again", artifact.uri)
        artifact.state = mlmd.Artifact.DELETED
    if lost:
        store.put_artifacts(lost)

"""Puts a root in order after a run that was killed: nothing half written stays, nothing lost is reused."""

import logging
import shutil
from pathlib import Path

from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.portable.mlmd import event_lib
from tfx.types.artifact import ArtifactState
from tfx.types.standard_artifacts import PushedModel

from components.flavours import CONTENT_PROPERTY, compute_content_hash, find_live_version, live_folders
from components.version_pusher import VERSION_FILE, mark_pushed
from pipelines.paths import RunPaths
from pipelines.run_metadata import unreadable

_NODE_CONTEXT = "node"
_STAGING = ".*.tmp"


class LiveVersionError(ValueError):
    """What is live is not what was pushed."""


def recover(paths: RunPaths) -> list[str]:
    """Fails the executions that a killed run left running and removes what they had begun.

    Also removes staged copies and half a push, and tells ML Metadata of a push that was done and not
    recorded, and of artifacts and pushed versions that are gone, so that TFX makes them again instead of
    taking them for cached.

    Args:
      paths: a root that no run is at work in: hold its lock.

    Returns:
      what was done, to be told; the log says it too.

    Raises:
      LiveVersionError: if the live version's files have changed since they were pushed.
      RunMetadataError: if the store cannot be read.
    """
    done: list[str] = []
    unfinished = [*paths.root.glob(_STAGING), *paths.serving.glob(_STAGING)]
    store = None
    if paths.metadata.exists():
        try:
            store = MetadataStore(sqlite_metadata_connection_config(str(paths.metadata)))
            store.get_context_types()  # the first one to read the file
        except RuntimeError as error:  # how ml_metadata says all that SQLite says
            raise unreadable(paths.metadata, error) from error
        unfinished += _end_interrupted(store, paths, done)
        _mark_lost(store, paths, done)
    for path in unfinished:
        done.append(f"removing {path}: left unfinished by an interrupted run")
        shutil.rmtree(path)
    for line in done:
        logging.warning(line)
    if store is not None:
        _check_live(store, paths.serving)  # last: what it stops must not leave half of the above undone
    return done


def _end_interrupted(store: MetadataStore, paths: RunPaths, done: list[str]) -> list[Path]:
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
        version = version_file.read_text(encoding="utf-8") if version_file else ""
        if version_file and version == live:
            _record_push(store, execution, version_file, paths.serving)
            done.append(f"{node} was interrupted (execution {execution.id}), but had pushed {version}")
        else:
            execution.last_known_state = mlmd.Execution.FAILED
            store.put_executions([execution])
            done.append(f"{node} was interrupted (execution {execution.id})")
            left += folder.glob(f"*/{execution.id}")
            if version:  # a push renames its flavours one by one
                left += (x for x in live_folders(paths.serving, version).values() if x.exists())
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


def _mark_lost(store: MetadataStore, paths: RunPaths, done: list[str]) -> None:
    lost = []
    for artifact in store.get_artifacts():
        if artifact.state != mlmd.Artifact.LIVE:
            continue
        version = _read_version(artifact, paths.serving)
        folders = live_folders(paths.serving, version).values() if version else ()
        missing = next((x for x in folders if not x.is_dir()), None)
        if missing:
            done.append(f"{missing}: gone; what was pushed there may be pushed again")
        elif paths.artifacts in Path(artifact.uri).parents and not Path(artifact.uri).exists():
            done.append(f"{artifact.uri}: lost; what made it will run again")
        else:
            continue
        artifact.state = mlmd.Artifact.DELETED
        lost.append(artifact)
    if lost:
        store.put_artifacts(lost)


def _check_live(store: MetadataStore, serving: Path) -> None:
    """Compares what is live with what was pushed; what no run of this root has pushed is not known."""
    live = find_live_version(serving)
    for artifact in store.get_artifacts():
        if not live or _read_version(artifact, serving) != live:
            continue
        folders = live_folders(serving, live)
        if compute_content_hash(folders) != artifact.custom_properties[CONTENT_PROPERTY].string_value:
            raise LiveVersionError(
                f"{' and '.join(map(str, folders.values()))}: changed since they were pushed. Restore them, "
                "or delete both: the run after that pushes again what passes its gates."
            )


def _read_version(artifact: mlmd.Artifact, serving: Path) -> str:
    """The version that a PushedModel stands for, "" for anything else."""
    properties = dict(artifact.custom_properties)  # the map itself takes in every name it is asked for
    if "pushed_version" not in properties or properties["pushed_destination"].string_value != str(serving):
        return ""
    return properties["pushed_version"].string_value

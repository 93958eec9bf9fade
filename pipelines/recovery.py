"""Puts a root in order after a run that was killed: nothing half written stays, nothing lost is reused."""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.v1.orchestration.metadata import sqlite_metadata_connection_config

from components.index_builder.build import FLAVOURS
from components.live_model import find_live_version, model_dir
from pipelines.paths import RunPaths

_NODE_CONTEXT = "node"
_STAGING = ".*.tmp"


def recover(paths: RunPaths) -> None:
    """Fails the executions that a killed run left running and removes what they had begun; the log says so.

    Also removes staged copies and versions pushed in one flavour alone, and tells ML Metadata of artifacts
    whose files are gone, so that TFX makes them again instead of taking them for cached.

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
        unfinished += _fail_interrupted(store, paths.artifacts)
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


def _fail_interrupted(store: MetadataStore, artifacts: Path) -> list[Path]:
    """Marks executions without an end as failed; returns the folders that they had begun."""
    begun: list[Path] = []
    for execution in store.get_executions():
        if execution.last_known_state not in (mlmd.Execution.NEW, mlmd.Execution.RUNNING):
            continue
        execution.last_known_state = mlmd.Execution.FAILED
        store.put_executions([execution])
        contexts = store.get_contexts_by_execution(execution.id)
        (node,) = (context.name.split(".")[-1] for context in contexts if context.type == _NODE_CONTEXT)
        logging.warning("%s was interrupted (execution %d)", node, execution.id)
        for pattern in (f"*/{execution.id}", f".system/*/{execution.id}", ".system/stateful_working_dir/*"):
            begun += (artifacts / node).glob(pattern)
    return begun


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

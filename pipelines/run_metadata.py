"""What a run recorded, read from ML Metadata."""

import json
import os
import re
from pathlib import Path
from typing import Any

from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

_RUN_CONTEXT = "pipeline_run"
_NODE_CONTEXT = "node"
_FAILED_QUERY = re.compile(r"executing query: (.*?) query:", re.DOTALL)  # SQLite's reason, before the SQL


class RunMetadataError(ValueError):
    """The store cannot be read, or lacks what was asked for."""


def open_store(path: Path) -> MetadataStore:
    """Opens a SQLite store, for reading only.

    Raises:
      RunMetadataError: if it is missing, not a store, or being written to.
    """
    if not path.exists():
        raise RunMetadataError(f"{path}: missing; `winnow run` writes it. Is --root right?")
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(path)
    config.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READONLY
    try:
        store = MetadataStore(config)
        store.get_context_types()  # the first one to read the file
    except RuntimeError as error:  # how ml_metadata says all that SQLite says
        raise unreadable(path, error) from error
    return store


def unreadable(path: Path, error: Exception) -> RunMetadataError:
    """What is said of a store that is there and cannot be read."""
    if "Concurrent writes" in str(error):  # ml_metadata has tried again several times
        return RunMetadataError(f"{path}: a run is writing to it; ask again in a moment.")
    failed = _FAILED_QUERY.search(str(error))
    reason = failed[1] if failed else error
    return RunMetadataError(
        f"{path}: not a readable ML Metadata store ({reason}). Restore it, or run in another --root."
    )


class RunMetadata:
    """The newest run in a SQLite store; reads only.

    Args:
      path: the store's file.
    """

    def __init__(self, path: Path):
        self._path = path

    def _store(self) -> MetadataStore:
        return open_store(self._path)

    def _runs(self, store: MetadataStore) -> list[mlmd.Context]:
        """All runs, the newest first."""
        runs = store.get_contexts_by_type(_RUN_CONTEXT)
        return sorted(runs, key=lambda context: context.create_time_since_epoch, reverse=True)

    def _execution(
        self, store: MetadataStore, node: str, run: mlmd.Context | None = None
    ) -> mlmd.Execution | None:
        """The newest execution of a node in a run, or in the newest."""
        run = run or next(iter(self._runs(store)), None)
        if run is None:
            return None
        suffix = f".{node}"
        found = [
            execution
            for execution in store.get_executions_by_context(run.id)
            if any(
                context.type == _NODE_CONTEXT and context.name.endswith(suffix)
                for context in store.get_contexts_by_execution(execution.id)
            )
        ]
        return max(found, key=lambda execution: execution.id, default=None)

    def was_cached(self, node: str) -> bool:
        """Whether the node's results were taken from an earlier run."""
        execution = self._execution(self._store(), node)
        return execution is not None and execution.last_known_state == mlmd.Execution.CACHED

    def outputs(self, node: str) -> dict[str, mlmd.Artifact]:
        """The node's output artifacts in the newest run, by key; empty if it did not run."""
        store = self._store()
        return self._artifacts(store, self._execution(store, node), mlmd.Event.OUTPUT)

    def _artifacts(
        self, store: MetadataStore, execution: mlmd.Execution | None, kind: "mlmd.Event.Type"
    ) -> dict[str, mlmd.Artifact]:
        """What an execution used or made, by key."""
        if execution is None:
            return {}
        keys = {
            event.artifact_id: event.path.steps[0].key
            for event in store.get_events_by_execution_ids([execution.id])
            if event.type == kind
        }
        return {keys[artifact.id]: artifact for artifact in store.get_artifacts_by_id(list(keys))}

    def read_output(self, node: str, key: str, file: str) -> Any:
        """The content of a JSON file in an output artifact; None if the node did not run."""
        artifact = self.outputs(node).get(key)
        if artifact is None:
            return None
        with open(os.path.join(artifact.uri, file), encoding="utf-8") as stream:
            return json.load(stream)

    def events_dir(self) -> str:
        """The event log of what is live: of the newest run that passed its gates and went on to the push.

        Raises:
          RunMetadataError: if there is none.
        """
        store = self._store()
        is_live = False
        for run in self._runs(store):
            push = self._execution(store, "Pusher", run)
            verdict = self._artifacts(store, push, mlmd.Event.INPUT).get("model_blessing")
            is_live |= verdict is not None and verdict.custom_properties["blessed"].int_value == 1
            ingested = self._execution(store, "EventIngest", run)  # a run of some nodes may lack it
            if is_live and ingested is not None:
                return ingested.custom_properties["events_dir"].string_value
        raise RunMetadataError(f"{self._path}: no run has pushed a version yet; start with `winnow run`")

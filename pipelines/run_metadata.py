"""What a run recorded, read from ML Metadata."""

import json
import os
from pathlib import Path
from typing import Any

from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

_RUN_CONTEXT = "pipeline_run"
_NODE_CONTEXT = "node"


class RunMetadata:
    """The newest run in a SQLite store; reads only.

    Args:
      path: the store's file.
    """

    def __init__(self, path: Path):
        self._path = path

    def _store(self) -> MetadataStore:
        config = mlmd.ConnectionConfig()
        config.sqlite.filename_uri = str(self._path)
        config.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READONLY
        return MetadataStore(config)

    def _execution(self, store: MetadataStore, node: str) -> mlmd.Execution | None:
        """The newest execution of a node in the newest run."""
        runs = store.get_contexts_by_type(_RUN_CONTEXT)
        if not runs:
            return None
        newest = max(runs, key=lambda context: context.create_time_since_epoch)
        suffix = f".{node}"
        found = [
            execution
            for execution in store.get_executions_by_context(newest.id)
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
        execution = self._execution(store, node)
        if execution is None:
            return {}
        keys = {
            event.artifact_id: event.path.steps[0].key
            for event in store.get_events_by_execution_ids([execution.id])
            if event.type == mlmd.Event.OUTPUT
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
        """The event log that was ingested last.

        Raises:
          LookupError: if none was.
        """
        executions = [
            execution
            for kind in self._store().get_execution_types()
            if kind.name.endswith(".EventIngest")
            for execution in self._store().get_executions_by_type(kind.name)
        ]
        if not executions:
            raise LookupError(f"{self._path}: no run has ingested an event log yet; start with `winnow run`")
        return max(executions, key=lambda x: x.id).custom_properties["events_dir"].string_value

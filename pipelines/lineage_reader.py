"""Reads a lineage from ML Metadata: back from a pushed version, forward from an artifact.

Nothing here knows a node: nodes, artifacts and parameters are those that ML Metadata has. A cached execution
is left out for the one whose results it took over, which keeps its own run. A version that a later run took
up, as what is live or as a warm start, is no input in ML Metadata; the parameter that names it says so.
"""

import dataclasses
import datetime as dt
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import json_format
from ml_metadata.errors import StatusError
from ml_metadata.proto import metadata_store_pb2 as mlmd

from pipelines.lineage import PUSHED_MODEL, Artifact, Execution, Lineage, Use, version_of
from pipelines.run_metadata import RunMetadataError, open_store, unreadable

_INPUTS = (mlmd.Event.INPUT, mlmd.Event.DECLARED_INPUT)
_OUTPUTS = (mlmd.Event.OUTPUT, mlmd.Event.DECLARED_OUTPUT)
_BLESSING = "ModelBlessing"
_MAX_ID_DIGITS = 18  # of an int64
_Result = TypeVar("_Result")


class NotRecordedError(RunMetadataError):
    """There is no such version or artifact; the message lists what there is."""


def read_version_lineage(path: Path, version: str | None = None) -> Lineage:
    """All that a pushed version came of, and what was looked at beside it in the same run.

    An earlier version that was taken up on the way is there by its number; it has a lineage of its own.

    Args:
      path: the SQLite store.
      version: its number; the live one if left out.

    Raises:
      NotRecordedError: if no such version was pushed.
      RunMetadataError: if none was, or is there any more; if the store is missing or damaged.
    """
    return _read(path, lambda reader: reader.read_version(version))


def read_artifact_lineage(path: Path, artifact: str) -> Lineage:
    """Everything that used an artifact, what was made of it, and so on.

    It goes on through a version that a later run started from or was compared with; of the latter, up to the
    verdict: what was compared with it did not come of it.

    Args:
      path: the SQLite store.
      artifact: an id, a URI, or a path in or below one; or the path of a pushed version.

    Raises:
      NotRecordedError: if there is no such artifact.
      RunMetadataError: if the store is missing or damaged.
    """
    return _read(path, lambda reader: reader.read_artifact(artifact))


def _read(path: Path, read: Callable[["_Reader"], _Result]) -> _Result:
    try:
        return read(_Reader(path))
    except (RuntimeError, StatusError) as error:
        raise unreadable(path, error) from error


class _Reader:
    """Walks over one store.

    Args:
      path: the store's file.
    """

    def __init__(self, path: Path):
        self._path = path
        self._store = open_store(path)
        pushed = {a.id: a for a in self._store.get_artifacts_by_type(PUSHED_MODEL)}
        made = self._load_artifacts(pushed)
        self._pushed = {version_of(a): a for a in made.values() if version_of(a)}
        self._live = max(filter(self._is_there, self._pushed), key=int, default="")

    def read_version(self, version: str | None) -> Lineage:
        if not self._pushed:
            raise RunMetadataError(f"{self._path}: no run has pushed a version yet; start with `winnow run`")
        known = ", ".join(sorted(self._pushed, key=int))
        version = version or self._live
        if not version:
            raise RunMetadataError(f"{self._path}: no pushed version is there any more; recorded are {known}")
        if version not in self._pushed:
            raise NotRecordedError(f"{self._path}: no version {version} was pushed; recorded are {known}")
        focus = self._pushed[version]
        came_of = self._walk({focus.maker}, _INPUTS)
        made = self._artifact_ids(self._executions_of_run(focus.maker), _OUTPUTS)
        beside = self._walk(self._executions_at(made, _OUTPUTS), _INPUTS)
        # A gate that only stops a run makes nothing that could lead to it.
        users = {e for e in self._executions_at(made, _INPUTS) if e < focus.maker}
        beside |= {e for e in users if not self._artifact_ids({e}, _OUTPUTS)}
        return self._make_lineage(focus, version, came_of | beside, set(self._pushed), beside - came_of)

    def read_artifact(self, text: str) -> Lineage:
        focus = self._find(text)
        found = new = self._walk(self._executions_at({focus.id}, _INPUTS), _OUTPUTS)
        taken_up = list(self._uses_by_parameter(self._store.get_executions(), set(self._pushed)))
        crossed: set[str] = set()
        while versions := self._versions_in(self._artifact_ids(new, _OUTPUTS) | {focus.id}) - crossed:
            crossed |= versions
            ids = {self._pushed[version].id for version in versions}
            takers = {use.execution for use in taken_up if use.artifact in ids}
            new = self._walk(takers, _OUTPUTS, without=_BLESSING)
            found = found | new
        return self._make_lineage(focus, "", found, crossed)

    def _find(self, text: str) -> Artifact:
        """The artifact with an id, or the nearest at or above a path."""
        is_id = text.isdecimal() and len(text) <= _MAX_ID_DIGITS
        if is_id and (found := self._load_artifacts({int(text)})):
            return found[int(text)]
        path = Path(text).resolve()
        for place in (text, *map(str, (path, *path.parents))):
            found = self._load_artifacts({a.id for a in self._store.get_artifacts_by_uri(place)})
            if found:
                return found[max(found)]
            if Path(place).name in self._pushed:
                return self._pushed[Path(place).name]
        raise NotRecordedError(
            f"{self._path}: no artifact {text!r}; expected an id, as `winnow lineage` shows, or a path in one"
        )

    def _is_there(self, version: str) -> bool:
        """Whether every model still has the version; a destination elsewhere is taken to have it."""
        destination = Path(self._pushed[version].properties["pushed_destination"])
        models = [path for path in destination.glob("[!.]*") if path.is_dir()]
        return not destination.exists() or (bool(models) and all((m / version).is_dir() for m in models))

    def _versions_in(self, artifacts: set[int]) -> set[str]:
        return {version for version, artifact in self._pushed.items() if artifact.id in artifacts}

    def _walk(self, executions: set[int], through: tuple[int, ...], without: str = "") -> set[int]:
        """Executions and all that lie before them, or after them.

        Args:
          executions: where to start.
          through: `_INPUTS` to go back, `_OUTPUTS` to go forward.
          without: a type of artifact that is not followed.
        """
        found, new = set[int](), executions
        while new:
            found |= new
            artifacts = self._store.get_artifacts_by_id(self._artifact_ids(new, through))
            followed = {artifact.id for artifact in artifacts if artifact.type != without}
            new = self._executions_at(followed, _OUTPUTS if through is _INPUTS else _INPUTS) - found
        return found

    def _artifact_ids(self, executions: Iterable[int], kinds: tuple[int, ...]) -> set[int]:
        events = self._store.get_events_by_execution_ids(executions)
        return {event.artifact_id for event in events if event.type in kinds}

    def _executions_at(self, artifacts: Iterable[int], kinds: tuple[int, ...]) -> set[int]:
        """The executions that made or used artifacts and ran to their end: none that was cached or failed."""
        events = self._store.get_events_by_artifact_ids(artifacts)
        executions = self._store.get_executions_by_id({e.execution_id for e in events if e.type in kinds})
        return {e.id for e in executions if e.last_known_state == mlmd.Execution.COMPLETE}

    def _executions_of_run(self, execution: int) -> set[int]:
        """All executions of the run that an execution is of, cached ones too."""
        runs = [c for c in self._store.get_contexts_by_execution(execution) if c.type == "pipeline_run"]
        return {e.id for run in runs for e in self._store.get_executions_by_context(run.id)}

    def _uses_by_parameter(self, executions: Iterable[mlmd.Execution], versions: set[str]) -> Iterator[Use]:
        """The versions that a parameter names, by number or as the last part of a path."""
        for execution in executions:
            for name, value in _leaves(_read_properties(execution)):
                version = Path(value).name if isinstance(value, str) else ""
                if version in versions and execution.last_known_state == mlmd.Execution.COMPLETE:
                    yield Use(self._pushed[version].id, execution.id, name)

    def _make_lineage(
        self,
        focus: Artifact,
        version: str,
        executions: set[int],
        versions: set[str],
        beside: Iterable[int] = (),
    ) -> Lineage:
        """The graph of some executions.

        Args:
          focus: what was asked for.
          version: its version, if it was asked for as one.
          executions: whose outputs, and uses of each other's outputs, the graph has.
          versions: which versions may have been taken up.
          beside: see `Lineage`.
        """
        taken_up = set(self._uses_by_parameter(self._store.get_executions_by_id(executions), versions))
        ids = {focus.id, *self._artifact_ids(executions, _OUTPUTS), *(use.artifact for use in taken_up)}
        used = {
            Use(event.artifact_id, event.execution_id, event.path.steps[0].key)
            for event in self._store.get_events_by_execution_ids(executions)
            if event.type in _INPUTS and event.artifact_id in ids
        }
        artifacts = self._load_artifacts(ids)
        return Lineage(
            focus=focus.id,
            version=version,
            live_version=self._live,
            executions=self._load_executions(executions | {a.maker for a in artifacts.values()}),
            artifacts=artifacts,
            uses=tuple(sorted(used | taken_up, key=dataclasses.astuple)),
            beside=frozenset(beside),
        )

    def _load_artifacts(self, ids: Iterable[int]) -> dict[int, Artifact]:
        """Artifacts by id, but those that a failed execution left."""
        events = [e for e in self._store.get_events_by_artifact_ids(ids) if e.type in _OUTPUTS]
        complete = self._executions_at(ids, _OUTPUTS)
        makers = {e.artifact_id: e for e in reversed(events) if e.execution_id in complete}
        return {
            artifact.id: Artifact(
                id=artifact.id,
                name=makers[artifact.id].path.steps[0].key,
                type=artifact.type,
                uri=artifact.uri,
                created_at=_to_datetime(makers[artifact.id].milliseconds_since_epoch),
                maker=makers[artifact.id].execution_id,
                properties=_read_properties(artifact),
            )
            for artifact in sorted(self._store.get_artifacts_by_id(ids), key=lambda a: a.id)
            if artifact.id in makers
        }

    def _load_executions(self, ids: Iterable[int]) -> dict[int, Execution]:
        loaded = {}
        # A push that recovery recorded ended when it was done, not when its execution was last updated.
        outputs = [e for e in self._store.get_events_by_execution_ids(ids) if e.type in _OUTPUTS]
        ends = {e.execution_id: e.milliseconds_since_epoch for e in outputs}
        for execution in sorted(self._store.get_executions_by_id(ids), key=lambda e: e.id):
            names = {c.type: c.name for c in self._store.get_contexts_by_execution(execution.id)}
            parameters = _read_properties(execution)
            start = execution.create_time_since_epoch
            end = ends.get(execution.id, execution.last_update_time_since_epoch)
            loaded[execution.id] = Execution(
                id=execution.id,
                node=names["node"].rpartition(".")[2],  # "<pipeline>.<node>"
                type=execution.type.rpartition(".")[2],
                run=names["pipeline_run"],
                started_at=_to_datetime(start),
                seconds=(end - start) / 1000,
                code_fingerprint=dict(_leaves(parameters)).get("code_fingerprint", ""),
                parameters=parameters,
            )
        return loaded


def _to_datetime(milliseconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.timezone.utc)


def _read_properties(node: mlmd.Artifact | mlmd.Execution) -> dict[str, Any]:
    values = {**node.properties, **node.custom_properties}
    return {name: _to_plain(value) for name, value in sorted(values.items())}


def _to_plain(value: mlmd.Value) -> Any:
    """A property as JSON can say it; a parameter that is JSON is read."""
    kind = value.WhichOneof("value")
    plain = getattr(value, kind)
    if kind == "struct_value":
        plain = _sort_keys(json_format.MessageToDict(plain))
        return plain.get("__value__", plain)  # where TFX keeps what is no object
    if kind == "proto_value":
        return str(plain)
    if kind == "double_value" and not math.isfinite(plain):
        return str(plain)
    if kind == "string_value" and plain.startswith("{"):
        try:
            return json.loads(plain)
        except ValueError:
            return plain
    return plain


def _sort_keys(value: Any) -> Any:
    """The same in one order: a proto's map has another in each process."""
    if isinstance(value, dict):
        return {key: _sort_keys(inner) for key, inner in sorted(value.items())}
    return [_sort_keys(inner) for inner in value] if isinstance(value, list) else value


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The values in nested ones, each with the nearest name."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, name)
    else:
        yield name, value

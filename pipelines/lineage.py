"""What came of what: a graph of executions, the artifacts they made, and who used them."""

import dataclasses
import datetime as dt
from typing import Any

PUSHED_MODEL = "PushedModel"  # TFX's type of what Pusher makes


@dataclasses.dataclass(frozen=True)
class Artifact:
    """Something that was made.

    Attributes:
      id: ML Metadata's id.
      name: the output it is of its maker, e.g. "transform_graph".
      type: its type's name, e.g. "Examples".
      uri: where it lies.
      created_at: when it was done.
      maker: the id of the execution that made it.
      properties: what was recorded of it.
    """

    id: int
    name: str
    type: str
    uri: str
    created_at: dt.datetime
    maker: int
    properties: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Execution:
    """A node that ran to its end.

    Attributes:
      id: ML Metadata's id.
      node: the node's id in the pipeline.
      type: the component's name.
      run: the id of the run it ran in, which may be earlier than the one that pushed.
      started_at: when it began.
      seconds: how long it took.
      code_fingerprint: of the project's code it ran, "" where it ran TFX's alone.
      parameters: what else it was told.
    """

    id: int
    node: str
    type: str
    run: str
    started_at: dt.datetime
    seconds: float
    code_fingerprint: str
    parameters: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Use:
    """An artifact that an execution used.

    Attributes:
      artifact: the artifact's id.
      execution: the execution's id.
      name: the input it was, or the parameter that named the version.
    """

    artifact: int
    execution: int
    name: str


@dataclasses.dataclass(frozen=True)
class Lineage:
    """A graph of executions, what they made, and what they used of it.

    Attributes:
      focus: the id of the artifact that was asked for; of a version, its `PushedModel`.
      version: the version whose making this is; "" if it is what came of an artifact.
      live_version: the version that is live, "" if none is.
      executions: by id; ids go up in time.
      artifacts: by id.
      uses: who used what.
      beside: executions of the run that made the version, of which it did not come: statistics, checks.
    """

    focus: int
    version: str
    live_version: str
    executions: dict[int, Execution]
    artifacts: dict[int, Artifact]
    uses: tuple[Use, ...]
    beside: frozenset[int] = frozenset()

    def outputs(self, execution: int) -> list[Artifact]:
        """What an execution made."""
        return [artifact for artifact in self.artifacts.values() if artifact.maker == execution]

    def before(self, execution: int) -> list[int]:
        """The executions whose artifacts an execution used."""
        return sorted({self.artifacts[u.artifact].maker for u in self.uses if u.execution == execution})

    def after(self, execution: int) -> list[int]:
        """The executions that used what an execution made."""
        return sorted({u.execution for u in self.uses if self.artifacts[u.artifact].maker == execution})

    def pushed_versions(self) -> list[str]:
        """All versions in the graph, the oldest first."""
        return sorted(filter(None, map(version_of, self.artifacts.values())), key=int)

    def to_json(self) -> dict[str, Any]:
        """The graph as plain values, times in ISO 8601."""
        values = dataclasses.asdict(self)
        for name in ("executions", "artifacts"):
            values[name] = list(values[name].values())
            for row in values[name]:
                row.update({k: v.isoformat() for k, v in row.items() if isinstance(v, dt.datetime)})
        return {**values, "beside": sorted(self.beside), "pushed_versions": self.pushed_versions()}


def version_of(artifact: Artifact) -> str:
    """The number under which an artifact was pushed; "" if it is none, or one that was not pushed."""
    is_pushed = artifact.type == PUSHED_MODEL and artifact.properties.get("pushed") == 1
    return artifact.properties["pushed_version"] if is_pushed else ""


def format_time(time: dt.datetime) -> str:
    """A time in UTC, to the second."""
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"

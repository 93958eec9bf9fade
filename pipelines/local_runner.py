"""Runs the pipeline on this machine, node by node.

Also the runner file that TFX's own command line takes, told by the environment what it has no flags for;
TFX imports Keras before this file can ask for Keras 2, so that has to be in the environment too:

    export TF_USE_LEGACY_KERAS=1 WINNOW_EVENTS=DIR WINNOW_ROOT=DIR [WINNOW_CONFIG=FILE]
    tfx pipeline create --engine=local --pipeline_path=pipelines/local_runner.py
    tfx run create --engine=local --pipeline_name=winnow
"""

from pipelines import tensorflow_setup  # noqa: F401, I001  (before TensorFlow)

import difflib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.pipeline import Pipeline, RunOptions

from pipelines.config import load_config
from pipelines.node_status import NodeStatus
from pipelines.paths import RunPaths
from pipelines.pipeline import create_pipeline
from pipelines.recovery import recover
from pipelines.root_lock import lock_root
from pipelines.run_metadata import RunMetadata
from sources.event_log import EventLog


class NodeFailedError(RuntimeError):
    """A node raised; the message names the node, what it said and the log."""


NodeListener = Callable[[NodeStatus], None]


def run_pipeline(
    pipeline: Pipeline,
    paths: RunPaths,
    on_node: NodeListener,
    from_node: str | None = None,
    to_node: str | None = None,
    say: Callable[[str], None] | None = None,
) -> RunMetadata:
    """Recovers from an interrupted run, runs the pipeline and tells `on_node` of every node's start and end.

    Args:
      pipeline: what `create_pipeline` made.
      paths: where it runs; hold the root's lock.
      on_node: called with a node's status when it changes.
      from_node: first node to run; what lies before it is taken from the last run.
      to_node: last node to run.
      say: told what recovery has done.

    Returns:
      what the run recorded.

    Raises:
      NodeFailedError: if a node raised.
      LiveVersionError, RunMetadataError: see `recover`.
      ValueError: if there is no such node.
    """
    names = [component.id for component in pipeline.components]
    for name in (from_node, to_node):
        if name is not None and name not in names:
            nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
            raise ValueError(f"no node {name!r}. Did you mean {nearest!r}? Nodes: {', '.join(names)}")
    paths.artifacts.mkdir(parents=True, exist_ok=True)
    for line in recover(paths):
        if say is not None:
            say(line)
    options = None
    if from_node or to_node:
        options = RunOptions(
            from_nodes=[from_node] if from_node else None, to_nodes=[to_node] if to_node else None
        )
    metadata = RunMetadata(paths.metadata)
    watcher = _NodeWatcher(metadata, on_node)
    logger = logging.getLogger("absl")
    logger.addHandler(watcher)
    try:
        LocalDagRunner().run(pipeline, run_options=options)
    except Exception as error:
        logging.exception("the run failed")
        if watcher.current is None:
            raise
        watcher.current.state = "failed"
        on_node(watcher.current)
        what = str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"
        raise NodeFailedError(f"{watcher.current.name} failed: {what}") from error
    finally:
        logger.removeHandler(watcher)
    return metadata


class _NodeWatcher(logging.Handler):
    """Turns what LocalDagRunner logs into node states; it has no other hook."""

    _STARTED = "Component %s is running."
    _ENDED = "Component %s is finished."
    _SKIPPED = "Skipping component %s."

    def __init__(self, metadata: RunMetadata, on_node: NodeListener):
        super().__init__(logging.INFO)
        self._metadata = metadata
        self._on_node = on_node
        self._start = 0.0
        self.current: NodeStatus | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg == self._STARTED:
            self._start = time.monotonic()
            self.current = NodeStatus(str(record.args[0]), "running")  # type: ignore[index]
            self._on_node(self.current)
        elif record.msg == self._ENDED and self.current is not None:
            self.current.seconds = time.monotonic() - self._start
            was_cached = self._metadata.was_cached(self.current.name)
            self.current.state = "cached" if was_cached else "done"
            self._on_node(self.current)
            self.current = None
        elif record.msg == self._SKIPPED:
            self._on_node(NodeStatus(str(record.args[0]), "skipped"))  # type: ignore[index]


def main() -> None:
    """Runs, or under TFX's command line compiles, the pipeline that the environment describes."""
    paths = RunPaths(Path(os.environ["WINNOW_ROOT"]).resolve())
    events = EventLog(Path(os.environ["WINNOW_EVENTS"]).resolve())
    paths.root.mkdir(parents=True, exist_ok=True)
    with lock_root(paths.root):
        recover(paths)
        LocalDagRunner().run(create_pipeline(events, load_config(os.environ.get("WINNOW_CONFIG")), paths))


if __name__ == "__main__":
    main()

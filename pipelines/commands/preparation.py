"""What studies of models need first: the pipeline's nodes up to Transform, run on an event log."""

import dataclasses
import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.root_lock import lock_root

if TYPE_CHECKING:
    from benchmarks.prepared_examples import PreparedExamples
    from pipelines.config import RunConfig
    from pipelines.paths import RunPaths
    from sources.event_log import EventLog


def make_data_key(log: "EventLog", config: "RunConfig") -> dict[str, Any]:
    """Everything the examples depend on; JSON values."""
    from pipelines.code_fingerprint import compute_code_fingerprint
    from schemas.features import ExampleType, load_schema

    source = log.manifest.schema
    return {
        "events": log.fingerprint(),
        "splits": dataclasses.asdict(config.splits),
        "negatives": dataclasses.asdict(config.negatives),
        "transform": dataclasses.asdict(config.transform),
        "schemas": [str(load_schema(source, kind)) for kind in ExampleType],
        "ingestion": compute_code_fingerprint("components.event_ingest.component", "trainers.preprocessing"),
    }


@contextmanager
def _report_failure(log_file: Path) -> Iterator[None]:
    """Ends the command in a line where data or configuration do not do; the traceback goes to the log.

    Raises:
      SystemExit: for a ValueError.
    """
    try:
        yield
    except ValueError as error:
        logging.exception("the study failed")
        raise SystemExit(f"winnow: {error}\nThe whole story: {log_file}") from error


class Preparation:
    """Runs the pipeline's nodes up to Transform.

    Args:
      log: the event log.
      config: what the run is told.
      paths: where it runs.
      stack: until it is closed, what TFX and TensorFlow log is kept away from the terminal, and a ValueError
        ends the command as a failed node does.
    """

    def __init__(self, log: "EventLog", config: "RunConfig", paths: "RunPaths", stack: ExitStack):
        self._log = log
        # No node up to Transform reads it, and a run refuses what the study sets itself.
        distillation = dataclasses.replace(config.distillation, mode="two_stage", sharing="none")
        self._config = dataclasses.replace(config, distillation=distillation)
        self._paths = paths
        self._stack = stack

    def run(self) -> "PreparedExamples":
        """Runs the nodes, as far as they are not cached; once for a study."""
        from pipelines.commands.node_view import NodeView
        from pipelines.run_log import write_log_to

        self._paths.root.mkdir(parents=True, exist_ok=True)
        log_file = self._stack.enter_context(write_log_to(self._paths.logs))
        self._stack.enter_context(_report_failure(log_file))
        with lock_root(self._paths.root), NodeView(sys.stderr) as view:
            view.note("starting TFX")
            from benchmarks.prepared_examples import PreparedExamples
            from pipelines.local_runner import NodeFailedError, run_pipeline
            from pipelines.pipeline import create_pipeline

            pipeline = create_pipeline(self._log, self._config, self._paths)
            view.start([component.id for component in pipeline.components])
            try:
                metadata = run_pipeline(pipeline, self._paths, view.update, to_node="Transform")
            except NodeFailedError as error:
                raise SystemExit(f"winnow: {error}\nThe whole story: {log_file}") from error
        ingested, transformed = metadata.outputs("EventIngest"), metadata.outputs("Transform")
        return PreparedExamples(
            events_dir=self._log.path,
            impressions_uri=ingested["impressions"].uri,
            item_patterns=[f"{ingested['items'].uri}/Split-*/*"],
            transformed_uri=transformed["transformed_examples"].uri,
            transform_graph_uri=transformed["transform_graph"].uri,
        )

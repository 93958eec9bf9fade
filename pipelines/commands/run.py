"""`winnow run`: the pipeline on this machine."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.commands.console import JsonOption, show_progress
from pipelines.root_lock import lock_root

if TYPE_CHECKING:
    from pipelines.config import RunConfig
    from pipelines.paths import RunPaths
    from pipelines.run_metadata import RunMetadata

DEFAULT_ROOT = Path("runs/marketplace")
RootOption = Annotated[
    Path,
    typer.Option("--root", help="Directory of artifacts, metadata and pushed versions.", resolve_path=True),
]


def run(
    events: Annotated[
        Path | None,
        typer.Option(
            "--events",
            help="The event log; a simulated marketplace when left out.",
            show_default=False,
            resolve_path=True,
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML file over the defaults.", show_default=False)
    ] = None,
    root: RootOption = DEFAULT_ROOT,
    from_node: Annotated[
        str | None,
        typer.Option("--from", help="First node to run; earlier results are reused.", show_default=False),
    ] = None,
    to_node: Annotated[str | None, typer.Option("--to", help="Last node to run.", show_default=False)] = None,
    as_json: JsonOption = False,
) -> None:
    """Ingests, validates, trains, evaluates and, if every gate passes, pushes.

    Exit code 0 when a version was pushed, when it was live already, or when the nodes asked for have run;
    1 when a gate blocked the push, a node failed, or another run is at work in the root.
    """
    from pipelines.config import load_config
    from pipelines.paths import RunPaths
    from pipelines.schema_check import check_schema
    from sources.event_log import EventLog

    settings = load_config(config)
    paths = RunPaths(root)
    # What is wrong with the input is said before anything is written, and before TFX is imported.
    if events is not None:
        log = EventLog(events)
        log.partitions()
        check_schema(log, log.manifest.schema)
    _make_root(paths)
    with lock_root(paths.root):
        result = _run_nodes(events, settings, paths, from_node, to_node)
    if as_json:
        typer.echo(json.dumps(result))
    else:
        _print_result(result)
    if result["verdict"] == "blocked":
        raise SystemExit(1)


def _run_nodes(
    events: Path | None, settings: "RunConfig", paths: "RunPaths", from_node: str | None, to_node: str | None
) -> dict[str, Any]:
    """Runs the nodes and reads what they came to."""
    from pipelines import tensorflow_setup  # noqa: F401  (before TensorFlow)
    from pipelines.config_checks import check_config
    from sources.event_log import EventLog

    if events is None:
        events = paths.events
        check_config(DEFAULT_SOURCE, settings)
        simulate_default(events)
    log = EventLog(events)

    from pipelines.commands.node_view import NodeView
    from pipelines.run_log import write_log_to

    with write_log_to(paths.logs) as log_file, NodeView(sys.stderr) as view:
        view.note("starting TFX")
        from pipelines.local_runner import NodeFailedError, run_pipeline
        from pipelines.pipeline import create_pipeline
        from pipelines.recovery import LiveVersionError
        from pipelines.run_metadata import RunMetadataError

        pipeline = create_pipeline(log, settings, paths)
        view.start([component.id for component in pipeline.components])
        try:
            metadata = run_pipeline(pipeline, paths, view.update, from_node, to_node, view.say)
        except (LiveVersionError, RunMetadataError) as error:
            raise SystemExit(f"winnow: {error}") from error
        except NodeFailedError as error:
            raise SystemExit(f"winnow: {error}\nThe whole story: {log_file}") from error
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        result = _read_result(metadata, paths)
    result["nodes"] = {status.name: status.state for status in view.statuses}
    return result


def _make_root(paths: "RunPaths") -> None:
    try:
        paths.logs.mkdir(parents=True, exist_ok=True)
        (paths.logs / ".writable").touch()
        (paths.logs / ".writable").unlink(missing_ok=True)  # another run may have been quicker
    except OSError as error:
        raise SystemExit(
            f"winnow: --root {paths.root}: cannot be written ({error.strerror}). "
            "Choose a directory you may write to, or make it writable."
        ) from error


DEFAULT_SOURCE = "marketplace"  # the schema of the embedded default


def simulate_default(events: Path, **changes: Any) -> None:
    """The embedded default: simulated once, and used again by later runs.

    Args:
      events: where it goes.
      **changes: of `MarketplaceConfig`, where it shall be another.
    """
    if events.exists():
        return
    from sources.marketplace import MarketplaceConfig, simulate

    config = MarketplaceConfig(**changes)
    with show_progress() as progress:
        simulate(
            config,
            events,
            lambda day, _: progress("simulating days", (day - config.start_date).days + 1, config.num_days),
        )


def _read_result(metadata: "RunMetadata", paths: "RunPaths") -> dict[str, Any]:
    """What the run came to, from ML Metadata."""
    from components.flavours import find_live_version
    from components.gates import REPORT_FILE
    from components.retrieval_evaluator.evaluate import METRICS_FILE
    from components.run_report.component import PAGE_FILE
    from components.score_evaluation.evaluate import METRICS_FILE as SCORE_METRICS_FILE

    gate = metadata.read_output("FunnelGate", "report", REPORT_FILE)
    pushed = metadata.outputs("Pusher").get("pushed_model")
    page = metadata.outputs("RunReport").get("page")
    if pushed is None:
        verdict = "partial"
    elif gate is not None and not gate["blessed"]:
        verdict = "blocked"
    elif pushed.custom_properties["pushed"].int_value and not metadata.was_cached("Pusher"):
        verdict = "pushed"
    else:
        verdict = "already live"
    return {
        "verdict": verdict,
        "live_version": find_live_version(paths.serving),
        "root": str(paths.root),
        "checks": gate["checks"] if gate else [],
        "metrics": metadata.read_output("RetrievalEvaluator", "evaluation", METRICS_FILE),
        "prerank_metrics": metadata.read_output("PrerankEvaluator", "evaluation", SCORE_METRICS_FILE),
        "rank_metrics": metadata.read_output("RankEvaluator", "evaluation", SCORE_METRICS_FILE),
        "report": str(Path(page.uri, PAGE_FILE)) if page else None,
    }


def _print_result(result: dict[str, Any]) -> None:
    from rich.console import Console

    from pipelines.commands.run_tables import make_tables

    console = Console(markup=False, highlight=False)
    for table in make_tables(result):
        console.print(table)
    failed = [check for check in result["checks"] if not check["passed"]]
    if result["verdict"] == "blocked":
        names = "; ".join(f"{c['stage']}: {c['name']} (missed by {c['missed_by']:.4f})" for c in failed)
        console.print(f"Not pushed: {names}.")
        for check in failed:
            if check["detail"]:
                console.print(f"{check['stage']}: {check['name']}: {check['detail']}.")
        console.print(f"Live stays: {result['live_version'] or 'nothing'}.")
    elif result["verdict"] == "pushed":
        console.print(f"Pushed version {result['live_version']} to {result['root']}/serving.")
    elif result["verdict"] == "partial":
        console.print("The nodes asked for have run; nothing was pushed.")
    else:
        console.print(
            f"Nothing pushed: version {result['live_version']} is live already, with equal content."
        )
    if result["report"]:
        console.print(f"Report: {result['report']}", soft_wrap=True)

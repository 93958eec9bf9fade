"""`winnow serve`: the model server."""

import json
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

HostOption = Annotated[
    str, typer.Option("--host", help="Address to listen on; 0.0.0.0 is every one of the machine.")
]
PortOption = Annotated[int, typer.Option("--port", min=0, max=65_535, help="gRPC port; 0 is any free one.")]
RestPortOption = Annotated[
    int, typer.Option("--rest-port", min=0, max=65_535, help="REST port; 0 is any free one.")
]


def serve(
    models: Annotated[
        Path,
        typer.Option(
            "--models",
            help="Where versions are pushed: the folder `serving` of a run's root.",
            show_default=False,
            resolve_path=True,
        ),
    ],
    host: HostOption = "127.0.0.1",
    port: PortOption = 8500,
    rest_port: RestPortOption = 8501,
    poll_seconds: Annotated[
        float, typer.Option("--poll-seconds", min=0.05, help="Time between looks for a new version.")
    ] = 1.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the ports, once requests are answered, as a line of JSON.")
    ] = False,
) -> None:
    """Answers requests as TensorFlow Serving does, from the newest version of every pushed model.

    New versions are taken up as they are pushed. SIGTERM and SIGINT let the requests at work end;
    the exit code is then 0.
    """
    from serving.model_server.directory import find_models

    # Before seconds go into importing TensorFlow.
    if not find_models(models):
        raise SystemExit(
            f"winnow: --models {models}: no version of a model there. Expected "
            "<model>/<version>/saved_model.pb, as `winnow run` pushes it to the folder `serving` of its root."
        )
    from pipelines import tensorflow_setup  # noqa: F401  (before TensorFlow)
    from serving.model_server.server import ModelServer, PortError

    try:
        server = ModelServer(models, host, port, rest_port, poll_seconds, _report)
    except PortError as error:
        raise SystemExit(f"winnow: {error}. Stop what listens there, or choose another port.") from error
    server.start()
    stopped = threading.Event()

    def stop(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second one does not wait
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    if as_json:
        typer.echo(json.dumps({"host": host, "grpc_port": server.grpc_port, "rest_port": server.rest_port}))
    else:
        typer.echo(f"gRPC on {host}:{server.grpc_port}, REST on http://{host}:{server.rest_port}/v1/models")
    stopped.wait()
    _report("stopping, once the requests at work are answered")
    server.stop()


def _report(line: str) -> None:
    typer.echo(f"winnow: {line}", err=True)

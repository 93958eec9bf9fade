"""`winnow bench dien-speed`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands import bench_options as options


def dien_speed(
    *,
    peer_python: Annotated[
        list[Path] | None,
        typer.Option(
            "--peer-python",
            help="Interpreter of an environment that has peers; may be given again.",
            show_default=False,
        ),
    ] = None,
    rows: Annotated[int, typer.Option(min=10, help="Rows of a batch.")] = 1024,
    rounds: Annotated[int, typer.Option(min=1, help="How often each model is timed.")] = 15,
    as_json: options.Json = False,
) -> None:
    """DIEN's training speed against our DIN and other packages' DIEN: the same sizes, ids and threads.

    Peers need packages that do not go with ours: each is run in the first environment that has it.
    """
    for python in peer_python or ():
        if not python.is_file():
            raise typer.BadParameter(
                f"{str(python)!r}: expected the Python interpreter of an environment, as ENV/bin/python; "
                "docs/benchmarks.md says how to make one",
                param_hint="--peer-python",
            )
    from pipelines import tensorflow_setup  # noqa: F401, I001  (before TensorFlow)
    from benchmarks.dien_speed.data import Sizes
    from benchmarks.dien_speed.report import print_report
    from benchmarks.dien_speed.study import measure
    from benchmarks.dien_speed.summary import summarize
    from benchmarks.machine import describe_machine

    sizes = Sizes(rows=rows)
    pythons = [python.absolute() for python in peer_python or ()]
    timings = measure(sizes, pythons, rounds, options.say)
    summary = summarize(timings, sizes, describe_machine(("tensorflow", "tf-keras", "numpy")))
    print_report(summary)
    if as_json:
        typer.echo(json.dumps(summary))

"""`winnow bench dien-serving`: one user's candidates, the history encoded once or for each of them."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands import bench_options as options


def dien_serving(
    *,
    candidates: Annotated[int, typer.Option(min=1, help="Candidates of the one user.")] = 200,
    history: Annotated[int, typer.Option(min=1, help="Events of the history.")] = 50,
    units: Annotated[int, typer.Option(min=1, help="Units of both recurrences.")] = 36,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is asked.")] = 300,
    as_json: options.Json = False,
    plot: options.Plot = None,
) -> None:
    """DIEN for one user's candidates, the history encoded once, against the export that tiles it.

    Random weights, the paper's sizes, SavedModels of fixed shapes, with and without XLA; then how the time
    grows with the history and with the candidates.
    """
    from pipelines import tensorflow_setup  # noqa: F401, I001  (before TensorFlow)
    from benchmarks.dien_serving.measure import measure_serving
    from benchmarks.dien_serving.models import RequestShape
    from benchmarks.machine import describe_machine
    from trainers.ranking.config import RankerConfig

    config = RankerConfig(embedding_dim=18, units=units, activation="dice")
    shape = RequestShape(candidates, history)
    result = measure_serving(config, shape, rounds, options.say)
    result["machine"] = describe_machine(options.PACKAGES)

    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False)
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    table.add_column(f"{candidates} candidates, history {history}, {units} units")
    for column in ("p50 ms", "p99 ms"):
        table.add_column(column, justify="right")
    for name, times in result["exports"].items():
        table.add_row(name, f"{times['p50_ms']:.2f}", f"{times['p99_ms']:.2f}")
    console.print(table)
    console.print()
    console.print(f"Tiling the history takes {result['ratio']:.1f} times as long as encoding it once.")
    for name, growth in result["growth"].items():
        ends = [growth["points"][place] for place in (0, -1)]
        console.print(
            f"From {ends[0]['size']} to {ends[1]['size']} {'events' if name == 'history' else name}: "
            f"{ends[0]['p50_ms']:.2f} to {ends[1]['p50_ms']:.2f} ms; a line fits with R² "
            f"{growth['r_squared']:.3f}."
        )

    def draw(path: Path) -> None:
        from benchmarks.dien_serving.plot import save_plot

        save_plot(result, path)

    options.print_json_and_draw(result, as_json, plot, draw)

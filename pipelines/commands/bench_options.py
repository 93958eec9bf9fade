"""What the commands below `winnow bench` share: their options, and how they give their results."""

import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

DEFAULT_ROOT = Path("runs/bench")
FULL_SEEDS = 5
PACKAGES = ("tensorflow", "tensorflow-recommenders", "numpy", "scipy")  # whose versions are told with results
PICTURES = (".png", ".svg", ".pdf")


def _check_picture(path: Path | None) -> Path | None:
    """Refuses before the study what could not be drawn after it."""
    if path is None:
        return None
    if path.suffix.lower() not in PICTURES:
        raise typer.BadParameter(f"{str(path)!r}: expected a name that ends in {', '.join(PICTURES)}")
    if not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
        raise typer.BadParameter(f"{str(path.parent)!r}: expected a folder that may be written")
    return path


Events = Annotated[
    Path, typer.Option("--events", help="The event log.", show_default=False, resolve_path=True)
]
Config = Annotated[
    Path | None, typer.Option("--config", help="YAML file over the defaults.", show_default=False)
]
Root = Annotated[
    Path, typer.Option("--root", help="Directory of results, and of what they need.", resolve_path=True)
]
Seeds = Annotated[int, typer.Option("--seeds", min=1, help="Seeds of the models that have one.")]
Full = Annotated[bool, typer.Option("--full", help=f"The full study: {FULL_SEEDS} seeds.")]
Json = Annotated[bool, typer.Option("--json", help="Print the results as one line of JSON, last.")]
Plot = Annotated[
    Path | None,
    typer.Option(
        "--plot",
        metavar="FILE.png",
        help="Draw a picture.",
        show_default=False,
        dir_okay=False,
        writable=True,
        callback=_check_picture,
    ),
]


def list_seeds(first: int, seeds: int, full: bool) -> range:
    """The seeds of a study: as many as `--seeds` says, with `--full` no fewer than the full study's."""
    return range(first, first + (max(seeds, FULL_SEEDS) if full else seeds))


def print_json_and_draw(
    summary: Mapping[str, Any], as_json: bool, plot: Path | None, draw: Callable[[Path], None]
) -> None:
    """Gives what `--json` and `--plot` ask for, the picture last: where it fails, the results are out.

    Args:
      summary: of the study; JSON values, but for numbers that are not defined: they are printed as null.
      as_json: whether to print it.
      plot: the picture's file; None for no picture.
      draw: writes the picture.
    """
    if as_json:
        typer.echo(json.dumps(_replace_undefined(summary), allow_nan=False))
    if plot is not None:
        draw(plot)


def _replace_undefined(value: Any) -> Any:
    """JSON has neither NaN nor infinity."""
    if isinstance(value, Mapping):
        return {name: _replace_undefined(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_undefined(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def say(text: str) -> None:
    """Reports on the way, on stderr."""
    print(text, file=sys.stderr, flush=True)

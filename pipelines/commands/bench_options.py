"""What the commands below `winnow bench` share: their options, and how they give their results."""

import json
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


def count_seeds(seeds: int, full: bool) -> int:
    """How many seeds a study has: `--seeds`, and no fewer than the full study's with `--full`."""
    return max(seeds, FULL_SEEDS) if full else seeds


def print_json_and_draw(
    summary: Mapping[str, Any], as_json: bool, plot: Path | None, draw: Callable[[Path], None]
) -> None:
    """Gives what `--json` and `--plot` ask for, the picture last: where it fails, the results are out.

    Args:
      summary: of the study; JSON values.
      as_json: whether to print it.
      plot: the picture's file; None for no picture.
      draw: writes the picture.
    """
    if as_json:
        typer.echo(json.dumps(summary))
    if plot is not None:
        draw(plot)


def say(text: str) -> None:
    """Reports on the way, on stderr."""
    print(text, file=sys.stderr, flush=True)

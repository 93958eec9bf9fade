"""What the commands below `winnow bench` share: their options, and what they say on the way."""

import sys
from pathlib import Path
from typing import Annotated

import typer

DEFAULT_ROOT = Path("runs/bench")
FULL_SEEDS = 5
PACKAGES = ("tensorflow", "tensorflow-recommenders", "numpy", "scipy")  # whose versions are told with results

Root = Annotated[
    Path, typer.Option("--root", help="Directory of results, and of what they need.", resolve_path=True)
]
Seeds = Annotated[int, typer.Option("--seeds", min=1, help="Seeds of the models that have one.")]
Full = Annotated[bool, typer.Option("--full", help=f"The full study: {FULL_SEEDS} seeds.")]
Json = Annotated[bool, typer.Option("--json", help="Print the results as one line of JSON, last.")]
Plot = Annotated[
    Path | None, typer.Option("--plot", metavar="FILE.png", help="Draw a picture.", show_default=False)
]


def count_seeds(seeds: int, full: bool) -> int:
    """How many seeds a study has: `--seeds`, and no fewer than the full study's with `--full`."""
    return max(seeds, FULL_SEEDS) if full else seeds


def say(text: str) -> None:
    """Reports on the way, on stderr."""
    print(text, file=sys.stderr, flush=True)

"""Whether a package reads ids with the vocabularies of its own run's Transform graph."""

from collections.abc import Iterable
from pathlib import Path

import tensorflow_transform as tft


def check_vocabularies(packages: Iterable[str], transform_graph: str) -> None:
    """Compares the files: with other vocabularies ids mean other rows of the embeddings, and nothing fails.

    What the schema's other features still tell can hide such a loss from a gate.

    Args:
      packages: directories of SavedModels that were built from the graph.
      transform_graph: the artifact's directory.

    Raises:
      ValueError: naming the first file that differs.
    """
    graph_assets = Path(transform_graph) / tft.TFTransformOutput.TRANSFORM_FN_DIR / "assets"
    for package in map(Path, packages):
        for path in sorted((package / "assets").glob("*")):
            own = graph_assets / path.name
            if own.exists() and own.read_bytes() != path.read_bytes():
                raise ValueError(
                    f"{path}: not the vocabulary of this run, which is {own}. Expected a package built from "
                    f"its Transform graph; delete {package.parent}: the next run makes it again."
                )

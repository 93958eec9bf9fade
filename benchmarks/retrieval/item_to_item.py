"""Item-to-item recall of a finished run, three ways: its own model, the user-to-item vectors, popularity.

    python -m benchmarks.retrieval.item_to_item --root ROOT [--config FILE]

The queries are the test split's pairs, as the pipeline's own evaluator asks them. The user-to-item way
compares an item's candidate vector with those of the others; so does the package where there is no
item-to-item model.
"""

from pipelines import tensorflow_setup  # noqa: F401, I001  (before TensorFlow)

import argparse
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from components.flavours import BRUTE_FORCE, package_dir
from components.index_builder.build import build_packages
from components.index_builder.package import load_package
from components.retrieval_evaluator.evaluate import measure
from components.retrieval_evaluator.metrics import per_user
from components.retrieval_evaluator.pairs import PairSet
from components.retrieval_evaluator.query_set import QuerySet
from components.retrieval_evaluator.rankers import PopularityRanker, SimilarRanker
from pipelines.config import RunConfig, load_config
from pipelines.paths import RunPaths
from pipelines.run_metadata import RunMetadata

if TYPE_CHECKING:
    import pandas as pd

METRICS = ("recall_10", "recall_100")


def compare(metadata: RunMetadata, config: RunConfig, folder: str) -> dict[str, "pd.DataFrame"]:
    """The metrics of each user with a pair, by model.

    Args:
      metadata: of a run whose nodes up to IndexBuilder are done.
      config: what the run was told.
      folder: for a package without an item-to-item model.
    """
    ingested = metadata.outputs("EventIngest")
    impressions, items = ingested["impressions"].uri, [f"{ingested['items'].uri}/Split-*/*"]
    build_packages(
        os.path.join(metadata.outputs("RetrievalTrainer")["model"].uri, "Format-Serving"),
        "",
        items,
        [f"{impressions}/Split-eval/*"],
        packages_dir=folder,
        report_dir=folder,
        depth=config.index.depth,
        target_recall=config.index.target_recall,
    )
    queries = QuerySet(impressions, items, config.gates.exclude_seen)
    built = metadata.outputs("IndexBuilder")["packages"].uri
    rankers = {
        "item to item": SimilarRanker(load_package(package_dir(built, BRUTE_FORCE))),
        "user-to-item vectors": SimilarRanker(load_package(package_dir(folder, BRUTE_FORCE))),
        "popularity": PopularityRanker(queries.train_clicks),
    }
    metrics, about = measure(rankers, PairSet(queries, config.item_to_item.session_gap_seconds))
    return {name: per_user(about["user"], values) for name, values in metrics.items()}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="of the run")
    parser.add_argument("--config", type=Path, help="that the run was given")
    arguments = parser.parse_args()
    paths = RunPaths(arguments.root.resolve())
    with tempfile.TemporaryDirectory() as folder:
        tables = compare(RunMetadata(paths.metadata), load_config(arguments.config), folder)
    for name, table in tables.items():
        means = "  ".join(f"{metric} {table[metric].mean():.4f}" for metric in METRICS)
        print(f"{name:<22}{means}  ({int(table['queries'].sum()):,} pairs of {len(table):,} users)")


if __name__ == "__main__":
    main()

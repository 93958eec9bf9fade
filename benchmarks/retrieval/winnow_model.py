"""Winnow's retrieval model, from the trainer to the package that is served."""

import os
from typing import Any

from tensorflow_transform import TFTransformOutput

from benchmarks.prepared_examples import PreparedExamples
from benchmarks.retrieval.data import EVAL
from components.flavours import BRUTE_FORCE, package_dir
from components.index_builder.build import build_packages
from trainers.retrieval.config import RetrievalConfig
from trainers.retrieval.export import export_towers
from trainers.retrieval.train import train_and_evaluate

_INDEX_RECALL = 0.9  # of the ScaNN flavour, which is built on the way and not measured here


def train_package(
    prepared: PreparedExamples, config: RetrievalConfig, depth: int, folder: str
) -> tuple[str, dict[str, Any]]:
    """Trains from scratch, exports and packages as the pipeline's own nodes do.

    Args:
      prepared: the examples.
      config: the model's configuration, its seed included.
      depth: items that the package returns.
      folder: where everything is written.

    Returns:
      the exact package's directory; the best epoch (from 0) and what it reached on the evaluation split.
    """
    transform_output = TFTransformOutput(prepared.transform_graph_uri)
    result = train_and_evaluate(
        config,
        [f"{prepared.transformed_uri}/Split-train/*"],
        [f"{prepared.transformed_uri}/Split-{EVAL}/*"],
        transform_output,
        log_dir=os.path.join(folder, "log"),
    )
    towers_dir, packages_dir = os.path.join(folder, "towers"), os.path.join(folder, "packages")
    export_towers(result.model, transform_output, towers_dir, {})
    build_packages(
        towers_dir,
        "",  # no item-to-item model: the study asks for users
        prepared.item_patterns,
        [f"{prepared.impressions_uri}/Split-{EVAL}/*"],
        packages_dir=packages_dir,
        report_dir=os.path.join(folder, "report"),
        depth=depth,
        target_recall=_INDEX_RECALL,
    )
    on_eval = {name: values for name, values in result.history.items() if name.startswith("val_")}
    training = {name: float(values[result.best_epoch]) for name, values in on_eval.items()}
    return package_dir(packages_dir, BRUTE_FORCE), {"epoch": result.best_epoch, **training}

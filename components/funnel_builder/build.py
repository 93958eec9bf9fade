"""Builds what is pushed of a retrieval model's packages, a pre-ranking student and a ranker."""

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from scann.scann_ops.py import scann_ops  # noqa: F401  (registers the op of the scann flavour)

from components.flavours import BRUTE_FORCE, FLAVOURS, package_dir
from components.funnel_builder.catalogue import Catalogue
from components.funnel_builder.prerank_package import PrerankStage
from components.funnel_builder.rank_package import RankStage
from components.index_builder.build import IDS_FILE, embed_items, read_items
from components.index_builder.package import load_package
from components.privileged_check import find_privileged_inputs
from trainers.prerank.export import ITEM_SIGNATURE
from trainers.ranking.export import ITEMS_SIGNATURE
from trainers.raw_features import EXTRA_DIR
from trainers.saved_models import save_signatures


@dataclasses.dataclass(frozen=True)
class FunnelDepths:
    """Items that each stage returns at most."""

    prerank: int
    rank: int


def build_funnel(
    retrieval_dir: str,
    student_dir: str,
    ranker_dir: str,
    item_patterns: Sequence[str],
    funnel_dir: str,
    depths: FunnelDepths,
    privileged_names: Collection[str],
) -> None:
    """Writes a package of all stages for every flavour, or nothing.

    Args:
      retrieval_dir: the packages of the retrieval model, see `package_dir`.
      student_dir: the student's SavedModel.
      ranker_dir: the ranker's.
      item_patterns: raw item examples: the whole catalogue, the same as the packages'.
      funnel_dir: gets the packages, see `package_dir`.
      depths: items that each stage returns at most.
      privileged_names: the raw features that nothing served may read.

    Raises:
      ValueError: if the models come of different Transform graphs or catalogues, a file of them is damaged,
        the student gives vectors that are not finite, or a signature reads a privileged feature.
    """
    exact_dir = package_dir(retrieval_dir, BRUTE_FORCE)
    check_transform_assets(exact_dir, student_dir, "pre-ranking student")
    check_transform_assets(exact_dir, ranker_dir, "ranker")
    student, ranker = load_package(student_dir), load_package(ranker_dir)
    item_ids, vectors = embed_items(student, ITEM_SIGNATURE, item_patterns)
    _, item_features = read_items(ranker, ITEMS_SIGNATURE, item_patterns)
    ids_file = os.path.join(exact_dir, "assets", IDS_FILE)
    check_catalogue(ids_file, item_ids)
    catalogue = Catalogue(item_ids, ids_file)
    stages: list[PrerankStage | RankStage] = [
        PrerankStage(student, catalogue, vectors, depths.prerank),
        RankStage(ranker, catalogue, item_features, depths.rank),
    ]
    signatures = {name: x for stage in stages for name, x in stage.signatures().items()}
    with contextlib.ExitStack() as on_failure:
        # Not the folder itself: it is TFX's, which stumbles over its absence and hides what went wrong.
        for flavour in FLAVOURS:
            on_failure.callback(shutil.rmtree, package_dir(funnel_dir, flavour), ignore_errors=True)
        for flavour in FLAVOURS:
            source, target = package_dir(retrieval_dir, flavour), package_dir(funnel_dir, flavour)
            _save(load_package(source), stages, signatures, target)
            # What a warm start needs travels with what is pushed.
            shutil.copytree(os.path.join(source, EXTRA_DIR), os.path.join(target, EXTRA_DIR))
            check_privileged(target, privileged_names)
        on_failure.pop_all()


def _save(retrieval: Any, stages: Sequence[tf.Module], signatures: Mapping[str, Any], path: str) -> None:
    """Writes all stages as one SavedModel.

    Args:
      retrieval: a flavour's package, whose signatures stay as they are.
      stages: the others.
      signatures: of the others; the same functions for every flavour.
      path: the directory to write.
    """
    package = tf.Module()
    package.retrieval, package.stages = retrieval, stages
    save_signatures(package, path, {**retrieval.signatures, **signatures}, namespaces=("Scann",))


def check_transform_assets(retrieval_dir: str, model_dir: str, model: str) -> None:
    """Compares the vocabularies of two SavedModels, which each carries of its Transform graph.

    Each model reads ids with its own and would answer without a fault; but the two would be of different
    runs, and what was judged of them together would hold for neither.

    Args:
      retrieval_dir: a package; its list of items is left out.
      model_dir: another model's SavedModel.
      model: what it is called.

    Raises:
      ValueError: naming the first file that one lacks or that differs.
    """
    own, other = Path(retrieval_dir, "assets"), Path(model_dir, "assets")
    names = {path.name for folder in (own, other) for path in folder.glob("*")} - {IDS_FILE}
    for name in sorted(names):
        pair = own / name, other / name
        missing = [str(path) for path in pair if not path.exists()]
        if missing or pair[0].read_bytes() != pair[1].read_bytes():
            problem = f"{missing[0]} is missing" if missing else f"{pair[1]} differs from {pair[0]}"
            raise ValueError(
                f"the retrieval model and the {model} come of different Transform graphs: "
                f"{problem}. Expected two models of one run; train both on one Transform graph."
            )


def check_catalogue(ids_file: str, item_ids: np.ndarray) -> None:
    """Compares the catalogue of the retrieval packages with the student's.

    Args:
      ids_file: the packages' items, line by line.
      item_ids: [N] the student's, sorted.

    Raises:
      ValueError: saying how many items one lacks, with an example.
    """
    indexed = set(Path(ids_file).read_bytes().splitlines())
    differing = indexed.symmetric_difference(item_ids.tolist())
    if differing:
        raise ValueError(
            f"{ids_file}: {len(differing)} items are in this list or in the item examples, but not in both, "
            f"{min(differing).decode()!r} for one. Expected one catalogue; build the retrieval packages of "
            "the same item examples."
        )


def check_privileged(package: str, privileged_names: Collection[str]) -> None:
    """Refuses a package of which a signature reads a privileged feature.

    Args:
      package: the directory of a SavedModel.
      privileged_names: names of raw features.

    Raises:
      ValueError: naming each signature and feature.
    """
    found = find_privileged_inputs(package, privileged_names)
    if found:
        raise ValueError(
            "what would be served reads privileged features, which a request does not have: "
            f"{', '.join(found)}. Expected them to be the teacher's alone; mark each in the schema as what "
            "it is, or take it out of the student. Nothing was built."
        )

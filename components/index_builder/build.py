"""Builds, tunes and measures the two packages of a retrieval model."""

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from components.flavours import BRUTE_FORCE, SCANN, package_dir
from components.index_builder.package import BruteForce, RetrievalPackage, Search
from components.index_builder.scann_index import ScannIndex, compute_recall, measure_latency_ms, tune
from schemas import features as f
from trainers.retrieval import export

REPORT_FILE = "index_report.json"
IDS_FILE = "item_ids.txt"  # of a package's assets
_TUNING_QUERIES = 256
_HELD_OUT_QUERIES = 256
_BATCH = 1024


def build_packages(
    towers_dir: str,
    item_towers_dir: str,
    item_patterns: Sequence[str],
    query_patterns: Sequence[str],
    packages_dir: str,
    report_dir: str,
    depth: int,
    target_recall: float,
) -> dict[str, Any]:
    """Writes both packages and the report.

    Args:
      towers_dir: the user-to-item trainer's SavedModel.
      item_towers_dir: the item-to-item trainer's; where it holds no SavedModel, items are compared with each
        other by the candidate tower of the first.
      item_patterns: raw item examples: the whole catalogue.
      query_patterns: raw impression examples, neither trained on nor tested on.
      packages_dir: see `package_dir`.
      report_dir: for `REPORT_FILE`.
      depth: items the funnel asks for.
      target_recall: what the ScaNN index is tuned to, at `depth`, against the exact index.

    Returns:
      the report.

    Raises:
      ValueError: if the catalogue is empty or a tower gives vectors that are not finite.
    """
    towers = tf.saved_model.load(towers_dir)
    item_ids, vectors = embed_items(towers, export.ITEM_SIGNATURE, item_patterns)
    queries = _embed_queries(towers, query_patterns, _TUNING_QUERIES + _HELD_OUT_QUERIES)
    depth = min(depth, len(item_ids))
    indexes, index_report = _build_indexes(vectors, queries, depth, target_recall)
    anchors = similar_vectors = vectors
    if tf.saved_model.contains_saved_model(item_towers_dir):
        item_towers = tf.saved_model.load(item_towers_dir)
        _, anchors = embed_items(item_towers, export.ANCHOR_SIGNATURE, item_patterns)
        _, similar_vectors = embed_items(item_towers, export.ITEM_SIGNATURE, item_patterns)
    sample = np.random.default_rng(0).permutation(anchors)[: _TUNING_QUERIES + _HELD_OUT_QUERIES]
    similar_indexes, similar_report = _build_indexes(similar_vectors, sample, depth, target_recall)

    os.makedirs(packages_dir, exist_ok=True)
    ids_file = os.path.join(packages_dir, IDS_FILE)
    with tf.io.gfile.GFile(ids_file, "wb") as stream:
        stream.write(b"\n".join(item_ids) + b"\n")
    for flavour, index in indexes.items():
        package = RetrievalPackage(
            towers, item_ids, index, anchors, similar_indexes[flavour], depth, ids_file
        )
        package.save(package_dir(packages_dir, flavour))
        # What a warm start needs travels with what is pushed.
        shutil.copytree(
            os.path.join(towers_dir, export.EXTRA_DIR),
            os.path.join(package_dir(packages_dir, flavour), export.EXTRA_DIR),
        )
    tf.io.gfile.remove(ids_file)  # each package carries its own, as an asset

    report = {
        "num_items": len(item_ids),
        "depth": depth,
        **index_report,
        "similar": similar_report,
    }
    os.makedirs(report_dir, exist_ok=True)
    with tf.io.gfile.GFile(os.path.join(report_dir, REPORT_FILE), "w") as stream:
        json.dump(report, stream, indent=2)
    return report


def _build_indexes(
    vectors: np.ndarray, queries: np.ndarray, depth: int, target_recall: float
) -> tuple[dict[str, Search], dict[str, Any]]:
    """The index of each flavour over vectors [N, D], and how well they answer queries [Q, D]."""
    exact_index = BruteForce(vectors)
    _, exact = exact_index(tf.constant(queries), tf.constant(depth))
    scann_index = ScannIndex(vectors)
    # Tuned on one half, measured on the other.
    half = max(len(queries) // 2, 1)
    tuned = tune(scann_index, queries[:half], exact.numpy()[:half], target_recall)
    _, found = scann_index(tf.constant(queries[half:]), tf.constant(depth))
    report = {
        "dimensions": int(vectors.shape[1]),
        "recall": compute_recall(found.numpy(), exact.numpy()[half:]),
        "tuning_recall": tuned,
        "leaves": scann_index.num_leaves,
        "leaves_to_search": scann_index.setting.leaves_to_search,
        "reorder_factor": scann_index.setting.reorder_factor,
        "latency_ms": measure_latency_ms(scann_index, queries, depth),
        "brute_force_latency_ms": measure_latency_ms(exact_index, queries, depth),
    }
    return {BRUTE_FORCE: exact_index, SCANN: scann_index}, report


def read_records(patterns: Iterable[str], batch_size: int) -> tf.data.Dataset:
    """Serialized examples in batches, files in order."""
    files = sorted(path for pattern in patterns for path in tf.io.gfile.glob(pattern))
    return tf.data.TFRecordDataset(files, compression_type="GZIP").batch(batch_size)


def embed_items(towers: Any, signature: str, patterns: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Reads the catalogue as a model sees it.

    Args:
      towers: the model's SavedModel, loaded.
      signature: of the items' vectors.
      patterns: raw item examples.

    Returns:
      the ids [N], each once, and the vectors [N, D], in the order of the ids.

    Raises:
      ValueError: if there is no item, or a vector is not finite.
    """
    ids, columns = read_items(towers, signature, patterns)
    _check_finite(columns[export.VECTORS], signature)
    return ids, columns[export.VECTORS]


def read_items(
    model: Any, signature: str, patterns: Sequence[str]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """What a signature gives of the catalogue.

    Args:
      model: a SavedModel, loaded.
      signature: takes serialized items; gives `schemas.features.ITEM_ID` and other columns.
      patterns: raw item examples.

    Returns:
      the ids [N], each once, and the other columns [N, ...] by name, in the order of the ids.

    Raises:
      ValueError: if there is no item.
    """
    parts = [model.signatures[signature](examples=x) for x in read_records(patterns, _BATCH)]
    if not parts:
        raise ValueError(f"the item catalogue is empty: {', '.join(patterns)}")
    columns = {name: np.concatenate([part[name].numpy() for part in parts]) for name in parts[0]}
    # One order whatever the files': rows of equal score then rank alike in every build.
    ids, first = np.unique(columns.pop(f.ITEM_ID), return_index=True)
    return ids, {name: values[first] for name, values in columns.items()}


def _embed_queries(towers: Any, patterns: Sequence[str], count: int) -> np.ndarray:
    batches = read_records(patterns, _BATCH).take(-(-count // _BATCH))
    parts = [towers.signatures[export.QUERY_SIGNATURE](examples=x)[export.VECTORS].numpy() for x in batches]
    if not parts:
        raise ValueError(f"no evaluation queries to tune the index on: {', '.join(patterns)}")
    queries = np.concatenate(parts)[:count]
    _check_finite(queries, export.QUERY_SIGNATURE)
    return queries


def _check_finite(vectors: np.ndarray, signature: str) -> None:
    bad = int((~np.isfinite(vectors)).any(axis=1).sum())
    if bad:
        raise ValueError(
            f"the signature {signature} gives NaN or infinite vectors for {bad} of {len(vectors)} rows; "
            "the model is broken: look at its training curves, lower its learning_rate"
        )

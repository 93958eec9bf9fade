"""Evaluates retrieval packages on the clicked rows of a split, through the signature that is served."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from components.index_builder.package import load_package
from components.retrieval_evaluator.agreement import measure_agreement
from components.retrieval_evaluator.metrics import METRICS, activity_slices, per_user
from components.retrieval_evaluator.pairs import PairSet
from components.retrieval_evaluator.query_set import QueryBatch, QuerySet
from components.retrieval_evaluator.rankers import (
    PackageRanker,
    PopularityRanker,
    RandomRanker,
    Ranker,
    SimilarRanker,
)

METRICS_FILE = "metrics.json"
PER_USER_FILE = "per_user.parquet"
ITEM_TO_ITEM = "item_to_item"
INDEX = "index"
PAIRS_PER_USER_FILE = "pairs_per_user.parquet"
POPULARITY = "popularity"
RANDOM = "random"


class NoQueriesError(ValueError):
    """There is nothing to ask."""


def evaluate_packages(
    packages: Mapping[str, str],
    scann_packages: Mapping[str, str],
    impressions_uri: str,
    item_patterns: Sequence[str],
    output_dir: str,
    exclude_seen: bool,
    session_gap_seconds: int,
    *,
    split: str = "test",
) -> dict[str, Any]:
    """Ranks the whole catalogue for every clicked row, by each package, by popularity and at random.

    Those of the rows that are pairs are also asked by the item clicked before alone.

    Args:
      packages: directory of the exact SavedModel by name; each answers with the catalogue it was built on.
      scann_packages: directory of the ScaNN SavedModel of those whose agreement is measured.
      impressions_uri: raw impression examples with the splits train, eval and test.
      item_patterns: raw item examples: the catalogue that popularity and random rank.
      output_dir: for `METRICS_FILE` (means by model and slice) and `PER_USER_FILE`; and, where there are
        pairs, `PAIRS_PER_USER_FILE`.
      exclude_seen: whether what the user clicked before the query is left out, by every model alike.
      session_gap_seconds: see `pairs.PairSet`.
      split: what is evaluated.

    Returns:
      what `METRICS_FILE` holds.

    Raises:
      ValueError: if the split holds no clicked row.
    """
    queries = QuerySet(impressions_uri, item_patterns, exclude_seen, split)
    loaded = {name: load_package(path) for name, path in packages.items()}
    candidates = {name: PackageRanker(package) for name, package in loaded.items()}
    rankers: dict[str, Ranker] = {
        **candidates,
        POPULARITY: PopularityRanker(queries.train_clicks),
        RANDOM: RandomRanker(),
    }
    metrics, about = measure(rankers, queries)
    models = {name: _by_slice(values, about) for name, values in metrics.items()}
    for name, ranker in candidates.items():
        models[name]["all"]["coverage_100"] = ranker.compute_coverage(len(queries.catalogue))
    report = {
        "split": split,
        "exclude_seen": exclude_seen,
        "num_queries": len(about["user"]),
        "num_repeats": queries.num_clicks - len(about["user"]),
        "num_users": len(np.unique(about["user"])),
        "num_items": len(queries.catalogue),
        "models": models,
        INDEX: {
            name: measure_agreement(loaded[name], load_package(path), queries)
            for name, path in scann_packages.items()
        },
        ITEM_TO_ITEM: None,
    }
    os.makedirs(output_dir, exist_ok=True)
    _write_per_user(metrics, about["user"], os.path.join(output_dir, PER_USER_FILE))
    by_item: dict[str, Ranker] = {name: SimilarRanker(x) for name, x in loaded.items()}
    by_item |= {name: rankers[name] for name in (POPULARITY, RANDOM)}
    try:
        metrics, about = measure(by_item, PairSet(queries, session_gap_seconds))
    except NoQueriesError:
        pass  # A source without sessions has no pairs.
    else:
        report[ITEM_TO_ITEM] = {
            "session_gap_seconds": session_gap_seconds,
            "num_queries": len(about["user"]),
            "num_users": len(np.unique(about["user"])),
            "models": {name: _by_slice(values, about) for name, values in metrics.items()},
        }
        _write_per_user(metrics, about["user"], os.path.join(output_dir, PAIRS_PER_USER_FILE))
    with tf.io.gfile.GFile(os.path.join(output_dir, METRICS_FILE), "w") as stream:
        json.dump(report, stream, indent=2)
    return report


def measure(
    rankers: Mapping[str, Ranker], queries: Iterable[QueryBatch]
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """Asks every ranker every query, in one pass over the queries.

    Args:
      rankers: by name.
      queries: the batches.

    Returns:
      the `METRICS` of each query [Q], by ranker; and what the queries are about, each [Q]: `user`,
      `known_user`, `new_item`, `clicks_so_far`.

    Raises:
      NoQueriesError: if there is no query.
    """
    rows: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in rankers}
    about: list[dict[str, np.ndarray]] = []
    for batch in queries:
        for name, ranker in rankers.items():
            rows[name].append(ranker.measure(batch))
        about.append(
            {
                "user": batch.users,
                "known_user": batch.known_user,
                "new_item": batch.new_item,
                "clicks_so_far": batch.clicked_before.lengths,
            }
        )
    if not about:
        raise NoQueriesError(
            "every click repeats an earlier one: set gates.exclude_seen to false for such data"
        )
    metrics = {
        name: {m: np.concatenate([p[m] for p in parts]) for m in METRICS} for name, parts in rows.items()
    }
    return metrics, {name: np.concatenate([part[name] for part in about]) for name in about[0]}


def _by_slice(
    values: dict[str, np.ndarray], about: dict[str, np.ndarray]
) -> dict[str, dict[str, float | None]]:
    """Means over users, for all queries and for each slice of them."""
    activity = activity_slices(about["clicks_so_far"])
    slices = {
        "all": np.ones(len(activity), bool),
        "known_users": about["known_user"],
        "new_users": ~about["known_user"],
        "new_items": about["new_item"],
        **{name: activity == name for name in sorted(set(activity), key=lambda x: int(x.split("_")[1]))},
    }
    report = {}
    for name, mask in slices.items():
        table = per_user(about["user"][mask], {m: v[mask] for m, v in values.items()})
        means = {m: float(table[m].mean()) if len(table) else None for m in METRICS}
        report[name] = {"users": len(table), "queries": int(mask.sum()), **means}
    return report


def _write_per_user(metrics: dict[str, dict[str, np.ndarray]], users: np.ndarray, path: str) -> None:
    """A row per model and user."""
    tables = []
    for name, values in metrics.items():
        table = per_user(users, values).rename_axis("user_id").reset_index()
        table.insert(0, "model", name)
        tables.append(table)
    frame = pd.concat(tables, ignore_index=True)
    frame["user_id"] = frame["user_id"].str.decode("utf-8")
    frame.to_parquet(path)

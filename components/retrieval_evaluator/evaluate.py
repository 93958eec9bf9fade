"""Evaluates retrieval packages on the clicked rows of a split, through the signature that is served."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from components.index_builder.build import read_records
from components.retrieval_evaluator import queries as q
from components.retrieval_evaluator.metrics import (
    METRICS,
    activity_slices,
    compute_random_metrics,
    compute_row_metrics,
    per_user,
)
from schemas import features as f

METRICS_FILE = "metrics.json"
PER_USER_FILE = "per_user.parquet"
POPULARITY = "popularity"
RANDOM = "random"
_BATCH = 128


def evaluate_packages(
    packages: Mapping[str, str],
    impressions_uri: str,
    item_patterns: Sequence[str],
    output_dir: str,
    exclude_seen: bool,
    split: str = "test",
) -> dict[str, Any]:
    """Ranks the whole catalogue for every clicked row, by each package, by popularity and at random.

    Args:
      packages: directory of the SavedModel by name; each answers with the catalogue it was built on.
      impressions_uri: raw impression examples with the splits train, eval and test.
      item_patterns: raw item examples: the catalogue that popularity and random rank.
      output_dir: for `METRICS_FILE` (means by model and slice) and `PER_USER_FILE`.
      exclude_seen: whether what the user clicked before the query is left out, by every model alike.
      split: what is evaluated.

    Returns:
      what `METRICS_FILE` holds.

    Raises:
      ValueError: if the split holds no clicked row.
    """
    patterns = {name: [f"{impressions_uri}/Split-{name}/*"] for name in ("train", "eval", "test")}
    item_ids = _read_item_ids(item_patterns)
    targets = q.read_clicks(patterns[split])
    if not len(targets.users):
        raise ValueError(f"the {split} split holds no clicked row: nothing to evaluate on")
    test_users = np.unique(targets.users)
    seen = q.SeenItems(q.read_clicks([p for ps in patterns.values() for p in ps], test_users), item_ids)
    train_clicks = q.count_clicks(patterns["train"], item_ids)
    known_users = q.read_users(patterns["train"])

    models = {name: tf.saved_model.load(path) for name, path in packages.items()}
    rows: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in (*models, POPULARITY, RANDOM)}
    shown: dict[str, set[bytes]] = {name: set() for name in models}
    about: list[dict[str, np.ndarray]] = []
    popularity = _Popularity(train_clicks)
    for examples, columns in q.iterate_queries(patterns[split], _BATCH):
        clicked_before = seen.before(columns[f.USER_ID], columns[f.TIMESTAMP])
        excluded = clicked_before if exclude_seen else [np.array([], np.int64)] * len(clicked_before)
        target_rows = _find(item_ids, columns[f.ITEM_ID])
        # A target clicked before cannot be excluded from its own ranking: it is the right answer.
        excluded = [r[r != t] for r, t in zip(excluded, target_rows, strict=True)]
        for name, model in models.items():
            found = model.signatures["recommend_examples"](
                examples=tf.constant(examples), exclude_item_id=tf.constant(q.pad(excluded, item_ids))
            )[f.ITEM_ID].numpy()
            rows[name].append(compute_row_metrics(_rank_in(found, columns[f.ITEM_ID])))
            shown[name].update(found[:, :100].ravel())
        rows[POPULARITY].append(compute_row_metrics(popularity.rank(target_rows, excluded)))
        rows[RANDOM].append(compute_random_metrics(len(item_ids) - np.array([len(e) for e in excluded])))
        about.append(
            {
                "user": columns[f.USER_ID],
                "known_user": np.isin(columns[f.USER_ID], known_users),
                "new_item": (target_rows < 0) | (train_clicks[np.maximum(target_rows, 0)] == 0),
                "clicks_so_far": np.array([len(r) for r in clicked_before]),
            }
        )
    about_all = {name: np.concatenate([part[name] for part in about]) for name in about[0]}
    metrics = {name: {m: np.concatenate([p[m] for p in parts]) for m in METRICS} for name, parts in rows.items()}
    report = {
        "split": split,
        "exclude_seen": exclude_seen,
        "num_queries": len(about_all["user"]),
        "num_users": len(test_users),
        "num_items": len(item_ids),
        "models": {name: _by_slice(values, about_all) for name, values in metrics.items()},
    }
    for name, items in shown.items():
        report["models"][name]["all"]["coverage_100"] = len(items - {b""}) / len(item_ids)
    _write(report, metrics, about_all, output_dir)
    return report


class _Popularity:
    """The catalogue ranked by training clicks; ties in the order of the ids."""

    def __init__(self, clicks: np.ndarray):
        order = np.lexsort((np.arange(len(clicks)), -clicks))
        self._rank = np.empty(len(clicks), np.int64)
        self._rank[order] = np.arange(len(clicks))

    def rank(self, targets: np.ndarray, excluded: list[np.ndarray]) -> np.ndarray:
        """The targets' ranks [Q] once the excluded rows are gone; infinite for a target of -1."""
        own = self._rank[np.maximum(targets, 0)].astype(np.float64)
        above = [np.sum(self._rank[np.unique(e)] < r) for e, r in zip(excluded, own, strict=True)]
        return np.where(targets >= 0, own - np.array(above), np.inf)


def _find(item_ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Rows of the sorted catalogue, -1 for an item it lacks."""
    rows = np.minimum(np.searchsorted(item_ids, wanted), len(item_ids) - 1)
    return np.where(item_ids[rows] == wanted, rows, -1)


def _rank_in(found: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The place [Q] of each target among its row of found ids [Q, k]; infinite where it is not."""
    hits = found == targets[:, np.newaxis]
    return np.where(hits.any(axis=1), hits.argmax(axis=1), np.inf)


def _read_item_ids(patterns: Sequence[str]) -> np.ndarray:
    spec = {f.ITEM_ID: tf.io.FixedLenFeature([], tf.string)}
    return np.unique(
        np.concatenate([tf.io.parse_example(x, spec)[f.ITEM_ID].numpy() for x in read_records(patterns, 8192)])
    )


def _by_slice(values: dict[str, np.ndarray], about: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
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


def _write(
    report: dict[str, Any],
    metrics: dict[str, dict[str, np.ndarray]],
    about: dict[str, np.ndarray],
    output_dir: str,
) -> None:
    tables = []
    for name, values in metrics.items():
        table = per_user(about["user"], values).rename_axis("user_id").reset_index()
        table.insert(0, "model", name)
        tables.append(table)
    os.makedirs(output_dir, exist_ok=True)
    frame = pd.concat(tables, ignore_index=True)
    frame["user_id"] = frame["user_id"].str.decode("utf-8")
    frame.to_parquet(os.path.join(output_dir, PER_USER_FILE))
    with tf.io.gfile.GFile(os.path.join(output_dir, METRICS_FILE), "w") as stream:
        json.dump(report, stream, indent=2)

"""The measured tables of docs/marketplace.md, from a simulated log and its oracle.

    winnow simulate --out LOG
    python -m benchmarks.marketplace_facts LOG

Everything printed is about synthetic data.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import scipy.optimize
import scipy.stats

from sources.event_log import ORACLE_DIR, EventLog
from sources.marketplace import Oracle
from sources.marketplace.behaviour import sigmoid

HISTORY_SIZE = 50
RECALL_DEPTHS = (10, 100, 500)
_DAY = pd.Timedelta(days=1)
_STEP = 256  # requests scored at a time
_ELSEWHERE = 1e-6  # what is outside the user's shops or category follows, by popularity


def read_shown(log: EventLog) -> pd.DataFrame:
    """The shown rows in time order, with their item's columns and the oracle's."""
    parts = []
    for file in (file for files in log.partitions().values() for file in files):
        rows = pq.read_table(file).to_pandas()
        truth = pq.read_table(log.path / ORACLE_DIR / file.parent.name / file.name).to_pandas()
        rows["click_probability"] = truth["click_probability"]
        parts.append(rows[rows["position"].notna()])
    items = pq.read_table(log.items_path, columns=["item_id", "category", "shop_id"]).to_pandas()
    shown = pd.concat(parts).merge(items, on="item_id", how="left", validate="many_to_one")
    shown["clicked"] = shown["clicked"].astype(bool)
    return shown.sort_values(["timestamp", "request_id"], kind="stable", ignore_index=True)


def compute_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve; ties count half."""
    ranks = scipy.stats.rankdata(scores)
    positives = labels.sum()
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * (~labels).sum()))


def describe_ceilings(shown: pd.DataFrame, oracle: Oracle) -> dict[str, float]:
    """AUC over the shown rows of the truth and of parts of it."""
    columns = pd.Index(oracle.item_ids).get_indexer(shown["item_id"])
    log_odds = np.empty(len(shown), np.float32)
    for start in range(0, len(shown), 10 * _STEP):
        part = shown.iloc[start : start + 10 * _STEP]
        requests = part.drop_duplicates("request_id")
        scores = oracle.relevance(requests["user_id"].tolist(), requests["timestamp"].to_numpy())
        row = pd.Index(requests["request_id"]).get_indexer(part["request_id"])
        log_odds[start : start + len(part)] = scores[row, columns[start : start + len(part)]]
    labels, position = shown["clicked"].to_numpy(), shown["position"].to_numpy(np.float64)
    return {
        "all effects": compute_auc(shown["click_probability"].to_numpy(), labels),
        "item and position": compute_auc(sigmoid(log_odds) * (position + 1) ** -0.3, labels),
        "item alone": compute_auc(log_odds, labels),
        "position alone": compute_auc(-position, labels),
    }


def measure_recall(shown: pd.DataFrame, oracle: Oracle) -> dict[str, list[float]]:
    """Recall over the clicks of the last two days, the whole catalogue ranked; [depths] by model."""
    clicks = shown[shown["clicked"]].reset_index(drop=True)
    first = clicks["timestamp"].max().floor("D") - _DAY
    tested = clicks[clicks["timestamp"] >= first]
    targets = pd.Index(oracle.item_ids).get_indexer(tested["item_id"])
    users, times = tested["user_id"].tolist(), tested["timestamp"].to_numpy()
    ranks: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(tested), _STEP):
        part = slice(start, start + _STEP)
        scores = {
            "Oracle.retrieval_scores": oracle.retrieval_scores(users[part], times[part]),
            "Oracle.relevance": oracle.relevance(users[part], times[part]),
            **_score_by_counts(clicks, tested.iloc[part], oracle),
        }
        for name, values in scores.items():
            own = np.take_along_axis(values, targets[part, np.newaxis], axis=1)
            ties = (values == own).sum(axis=1) - 1
            ranks.setdefault(name, []).append((values > own).sum(axis=1) + ties / 2)
    return {
        name: [float(np.mean(np.concatenate(parts) < k)) for k in RECALL_DEPTHS]
        for name, parts in ranks.items()
    } | {"clicks": [float(len(tested))]}


def _score_by_counts(clicks: pd.DataFrame, queries: pd.DataFrame, oracle: Oracle) -> dict[str, np.ndarray]:
    """Scores [Q, I] from the counts of all clicks before each query."""
    about = clicks.drop_duplicates("item_id").set_index("item_id").reindex(oracle.item_ids)
    shops, shop_names = pd.factorize(about["shop_id"])  # -1 where nobody clicked the item
    categories, category_names = pd.factorize(about["category"])
    rows = pd.Index(oracle.item_ids).get_indexer(clicks["item_id"])
    click_shops = pd.Index(shop_names).get_indexer(clicks["shop_id"])
    click_categories = pd.Index(category_names).get_indexer(clicks["category"])
    own = clicks.groupby("user_id").indices
    popularity = np.empty((len(queries), len(about)), np.float64)
    by_shop, by_category = popularity.copy(), popularity.copy()
    before = clicks["timestamp"].searchsorted(queries["timestamp"], side="left")
    for query, (user, end) in enumerate(zip(queries["user_id"], before, strict=True)):
        popularity[query] = np.bincount(rows[:end], minlength=len(about))
        mine = own[user][own[user] < end]
        in_shop = np.append(np.bincount(click_shops[mine], minlength=len(shop_names)), 0)
        by_shop[query] = popularity[query] * (in_shop[shops] + _ELSEWHERE)
        last = click_categories[mine[-1]] if len(mine) else -2
        by_category[query] = popularity[query] * ((categories == last) + _ELSEWHERE)
    return {
        "popularity in shops by the user's clicks there": by_shop,
        "popularity within the user's last clicked category": by_category,
        "popularity": popularity,
    }


def measure_shop_features(shown: pd.DataFrame) -> dict[str, float]:
    """AUC of logistic regressions over the last three days, with and without the user's clicks in the shop.

    Every feature is log(1 + count) over earlier requests: the item's clicks and shown rows, the user's
    clicks, those in the item's category among the last 50, the position. Beside them the user's clicks in the
    item's shop, among the last 50 or of all; and the user's shown rows of the shop.
    """
    clicks = shown[shown["clicked"]]
    so_far = _count_before(shown, clicks, ["user_id"])
    recent = np.maximum(so_far - HISTORY_SIZE, 0)
    by_shop = _ClickCounter(clicks, "shop_id")
    in_shop = {
        "last 50": by_shop.count(shown, recent, so_far),
        "all": by_shop.count(shown, 0 * recent, so_far),
    }
    seen = np.log1p(_count_before(shown, shown, ["user_id", "shop_id"]))
    base = [
        shown["position"].to_numpy(np.float64),
        _count_before(shown, clicks, ["item_id"]),
        _count_before(shown, shown, ["item_id"]),
        so_far,
        _ClickCounter(clicks, "category").count(shown, recent, so_far),
    ]
    features = {"no shop": [np.log1p(x) for x in base]}
    for name, counts in in_shop.items():
        features[name] = [*features["no shop"], np.log1p(counts)]
        features[f"{name}, and shown rows of the shop"] = [*features[name], seen]
    is_test = (shown["timestamp"] >= shown["timestamp"].max().floor("D") - 2 * _DAY).to_numpy()
    labels, busy = shown["clicked"].to_numpy(), so_far > 30
    result = {}
    for name, columns in features.items():
        scores = _fit_logistic(np.stack(columns, axis=1), labels, ~is_test)
        result[name] = compute_auc(scores[is_test], labels[is_test])
        result[f"{name} (users with more than 30 clicks)"] = compute_auc(
            scores[is_test & busy], labels[is_test & busy]
        )
    return result


def _count_before(rows: pd.DataFrame, events: pd.DataFrame, keys: list[str]) -> np.ndarray:
    """For each row the events of the same keys at an earlier time [N]."""
    codes = _encode(rows, events, keys)
    times = [frame["timestamp"].astype("int64").to_numpy() // 1_000_000 for frame in (rows, events)]
    first = min(times[0].min(), times[1].min())
    span = max(times[0].max(), times[1].max()) - first + 2
    ordered = np.sort(codes[1] * span + times[1] - first)
    start = np.searchsorted(ordered, codes[0] * span)
    return np.searchsorted(ordered, codes[0] * span + times[0] - first) - start


def _encode(rows: pd.DataFrame, events: pd.DataFrame, keys: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The keys of both tables as whole numbers."""
    both = pd.concat([rows[keys], events[keys]])
    codes = both.groupby(keys).ngroup().to_numpy()
    return codes[: len(rows)], codes[len(rows) :]


class _ClickCounter:
    """Counts a user's clicks of one shop or category, by the number of the click in the user's life."""

    def __init__(self, clicks: pd.DataFrame, column: str):
        self._keys = ["user_id", column]
        self._clicks = clicks
        self._numbers = clicks.groupby("user_id").cumcount().to_numpy()

    def count(self, rows: pd.DataFrame, first: np.ndarray, end: np.ndarray) -> np.ndarray:
        """The clicks numbered from `first` to before `end` [N] with each row's keys."""
        codes, click_codes = _encode(rows, self._clicks, self._keys)
        span = self._numbers.max() + 2
        ordered = np.sort(click_codes * span + self._numbers)
        return np.searchsorted(ordered, codes * span + end) - np.searchsorted(ordered, codes * span + first)


def _fit_logistic(features: np.ndarray, labels: np.ndarray, is_train: np.ndarray) -> np.ndarray:
    """Log-odds [N] of a logistic regression fitted on some rows; standardised, slightly ridged."""
    spread = features[is_train].std(axis=0)
    x = (features - features[is_train].mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    x = np.column_stack([np.ones(len(x)), x])
    train, signs = x[is_train], np.where(labels[is_train], 1.0, -1.0)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margins = signs * (train @ weights)
        gradient = -(signs * sigmoid(-margins)) @ train / len(train) + 1e-4 * weights
        return np.logaddexp(0, -margins).mean() + 5e-5 * weights @ weights, gradient

    return x @ scipy.optimize.minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x


def main() -> None:
    """Prints everything as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("log", type=Path, help="made by `winnow simulate`")
    log = EventLog(parser.parse_args().log)
    oracle = Oracle(log.path)
    shown = read_shown(log)
    clicks = shown[shown["clicked"]].groupby("user_id").size()
    facts = {
        "summary": vars(oracle.summary),
        "auc": describe_ceilings(shown, oracle),
        "clicks of a user": clicks.quantile([0.5, 0.75, 0.9, 1.0]).to_dict(),
        "share of clicks by users with more than 50": float(
            clicks[clicks > HISTORY_SIZE].sum() / clicks.sum()
        ),
        "users with more than 50 clicks": int((clicks > HISTORY_SIZE).sum()),
        "recall": measure_recall(shown, oracle),
        "shop features": measure_shop_features(shown),
    }
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()

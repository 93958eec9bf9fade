"""Ratings as the rows that the retrieval trainer takes: every feature encoded and dense.

The vocabularies are the training ratings': a film that nobody rated there has index 0, its title and genres.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd
import tensorflow as tf

from benchmarks.movielens.ratings import MovieLens, Ratings
from schemas import features as f
from trainers.layers.feature_embedding import PADDING
from trainers.preprocessing import USER_KEY, EncodedFeature
from trainers.retrieval.model import HISTORY_ITEM_INDEX, ITEM_INDEX, USER_INDEX

_ROWS_PER_BATCH = 4096
_YEAR_BUCKETS = 20
_TIME_BUCKETS = 200
_MAX_AGE = 31  # 2^31 seconds are 68 years
TIME_BUCKET = f"{f.TIMESTAMP}_bucket"
HISTORY_AGE = f"{f.HISTORY_TIMESTAMP}_age"
_USER_COLUMNS = ("gender", "age", "occupation")


@dataclasses.dataclass(frozen=True)
class RowMaker:
    """The features and how a rating gets them.

    Attributes:
      features: of both sides.
      users: encoded, by name: [U].
      items: encoded, by name: [N] or [N, n].
      time_edges: the buckets of a query's time; None where a query has no time.
    """

    features: tuple[EncodedFeature, ...]
    users: Mapping[str, np.ndarray]
    items: Mapping[str, np.ndarray]
    time_edges: np.ndarray | None

    def make_queries(
        self, users: np.ndarray, seconds: np.ndarray, past: Ratings, places: np.ndarray
    ) -> dict[str, np.ndarray]:
        """The query side of Q rows.

        Args:
          users: int64 [Q].
          seconds: int64 [Q] when they are asked.
          past: the ratings that histories are taken from.
          places: int64 [Q, T] which of them, `PADDING` for none.
        """
        is_event = places != PADDING
        query = {name: values[users] for name, values in self.users.items()}
        items = self.items[ITEM_INDEX][past.items[places]]
        query[HISTORY_ITEM_INDEX] = np.where(is_event, items, PADDING)
        if self.time_edges is not None:
            query[TIME_BUCKET] = np.searchsorted(self.time_edges, seconds, side="right") + 1
            query[HISTORY_AGE] = np.where(
                is_event, _compute_age(seconds[:, None], past.seconds[places]), PADDING
            )
        return query

    def make_rows(self, ratings: Ratings, past: Ratings, places: np.ndarray) -> tf.data.Dataset:
        """Ratings as rows in batches, all clicked, as the trainer reads them; see `make_queries`."""
        columns = {
            **self.make_queries(ratings.users, ratings.seconds, past, places),
            **{name: values[ratings.items] for name, values in self.items.items()},
            f.CLICKED: np.ones(len(ratings), np.int64),
            USER_KEY: ratings.users,
        }
        return tf.data.Dataset.from_tensor_slices(columns).batch(_ROWS_PER_BATCH)


def fit_row_maker(movielens: MovieLens, train: Ratings, *, with_time: bool) -> RowMaker:
    """Finds the vocabularies of the training ratings. A feature without a value is left out.

    Args:
      movielens: the data set.
      train: the training ratings.
      with_time: whether a query knows when it is asked, and how far from that its history lies. Where the
        history may be later than the query, the age is negative, and a random split is leaking.
    """
    features: list[EncodedFeature] = []
    users: dict[str, np.ndarray] = {}
    items: dict[str, np.ndarray] = {}

    def add(target: dict[str, np.ndarray], values: np.ndarray, size: int, feature: EncodedFeature) -> None:
        target[feature.name] = values
        features.append(dataclasses.replace(feature, size=size))

    known = np.unique(train.items)
    index = np.zeros(len(movielens.items), np.int64)
    index[known] = np.arange(1, len(known) + 1)
    item_size = len(known) + 1
    user_index = np.zeros(len(movielens.users), np.int64)
    user_index[np.unique(train.users)] = np.arange(1, len(np.unique(train.users)) + 1)
    query, candidate = f.Role.QUERY, f.Role.CANDIDATE
    add(users, user_index, int(user_index.max()) + 1, _feature(USER_INDEX, query, "user_id"))
    for column in _USER_COLUMNS:
        if column in movielens.users and movielens.users[column].notna().any():
            codes, names = pd.factorize(movielens.users[column])
            add(users, codes + 1, len(names) + 1, _feature(f"{column}_index", query, "profile"))
    features.append(EncodedFeature(HISTORY_ITEM_INDEX, ITEM_INDEX, item_size, query, "history", True))
    time_edges = None
    if with_time:
        time_edges = np.unique(np.quantile(train.seconds, np.linspace(0, 1, _TIME_BUCKETS + 1)[1:-1]))
        features.append(_feature(TIME_BUCKET, query, "time", len(time_edges) + 2))
        features.append(_feature(HISTORY_AGE, query, "time", 2 * _MAX_AGE + 4, is_list=True))
    add(items, index, item_size, _feature(ITEM_INDEX, candidate, "item_id"))
    if movielens.items["release_year"].notna().any():
        year = pd.qcut(movielens.items["release_year"], _YEAR_BUCKETS, labels=False, duplicates="drop")
        add(items, (year.fillna(-1) + 1).to_numpy(np.int64), _YEAR_BUCKETS + 1,
            _feature("release_year_bucket", candidate, "attributes"))  # fmt: skip
    for name, group, lists in (
        ("genres_index", "attributes", movielens.items["genres"]),
        ("title_tokens", "text", movielens.items["title"].str.lower().str.findall(r"[^\W_]+")),
    ):
        flat = lists.reset_index(drop=True).explode().dropna()
        names = np.unique(flat[index[flat.index] > 0].to_numpy(str))
        if len(names):
            feature = _feature(name, candidate, group, is_list=True)
            add(items, _encode_lists(flat, names, len(index)), len(names) + 1, feature)
    return RowMaker(tuple(features), users, items, time_edges)


def _feature(name: str, role: f.Role, group: str, size: int = 0, *, is_list: bool = False) -> EncodedFeature:
    return EncodedFeature(name, name, size, role, group, is_list)


def _encode_lists(flat: pd.Series, names: np.ndarray, num_items: int) -> np.ndarray:
    """[N, n] filled with `PADDING`: places from 1 in sorted names, 0 for a value that is not among them.

    Args:
      flat: the values, under their items' numbers.
      names: sorted.
      num_items: N.
    """
    values = flat.to_numpy(str)
    place = np.minimum(np.searchsorted(names, values), len(names) - 1)
    codes = np.where(names[place] == values, place + 1, 0)
    column = flat.groupby(level=0).cumcount().to_numpy()
    encoded = np.full((num_items, column.max() + 1), PADDING, np.int64)
    encoded[flat.index, column] = codes
    return encoded


def _compute_age(seconds: np.ndarray, event_seconds: np.ndarray) -> np.ndarray:
    """How long before the query, as the power of two of seconds; the sign kept. From 1; 0 is unknown."""
    distance = seconds - event_seconds
    power = np.log2(np.maximum(np.abs(distance), 1)).astype(np.int64)
    return np.where(distance < 0, -power - 1, power) + _MAX_AGE + 2


def find_earlier(ratings: Ratings, size: int) -> np.ndarray:
    """The ratings [R, size] that each rating's user gave before it, the newest last; `PADDING` in front."""
    order = ratings.in_time()
    first, _ = _group(ratings.users[order])
    places = np.arange(len(ratings))[:, np.newaxis] - np.arange(size, 0, -1)
    history = np.where(places >= first[:, np.newaxis], order[np.maximum(places, 0)], PADDING)
    result = np.empty_like(history)
    result[order] = history
    return result


def find_others(ratings: Ratings, size: int, seed: int) -> np.ndarray:
    """Other ratings [R, size] of the same user, never the rating itself; `PADDING` behind.

    A user with more of them gives each rating another part: the window behind its place in one random
    order, which closes to a ring.
    """
    order = np.lexsort((np.random.default_rng(seed).random(len(ratings)), ratings.users))
    first, count = _group(ratings.users[order])
    steps = np.arange(1, size + 1)
    places = (np.arange(len(ratings)) - first)[:, np.newaxis] + steps
    others = order[first[:, np.newaxis] + places % count[:, np.newaxis]]
    result = np.empty_like(others)
    result[order] = np.where(steps < count[:, np.newaxis], others, PADDING)
    return result


def find_newest(past: Ratings, num_users: int, size: int) -> np.ndarray:
    """Each user's newest ratings [num_users, at most size], oldest first; `PADDING` in front."""
    order = past.in_time()
    ends = np.searchsorted(past.users[order], np.arange(num_users), side="right")
    starts = np.searchsorted(past.users[order], np.arange(num_users), side="left")
    width = min(size, int((ends - starts).max()))
    places = ends[:, np.newaxis] - np.arange(width, 0, -1)
    return np.where(places >= starts[:, np.newaxis], order[np.maximum(places, 0)], PADDING)


def _group(sorted_users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of the sorted rows, where its user's begin and how many they are."""
    _, start, inverse, count = np.unique(
        sorted_users, return_index=True, return_inverse=True, return_counts=True
    )
    return start[inverse], count[inverse]

"""A MovieLens data set in memory, films of one title as one item."""

import dataclasses
import hashlib
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from sources.event_log import EventLog
from sources.movielens import import_movielens


@dataclasses.dataclass(frozen=True)
class Ratings:
    """Ratings, every one of them a positive.

    Attributes:
      users: int64 [R] rows of `MovieLens.users`.
      items: int64 [R] rows of `MovieLens.items`.
      seconds: int64 [R] when, since 1970.
    """

    users: np.ndarray
    items: np.ndarray
    seconds: np.ndarray

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: np.ndarray) -> "Ratings":
        """Some of them, by number or by mask."""
        return Ratings(self.users[rows], self.items[rows], self.seconds[rows])

    def in_time(self) -> np.ndarray:
        """The numbers [R] of the ratings user by user, oldest first; of equal times the first one first."""
        return np.lexsort((np.arange(len(self)), self.seconds, self.users))


@dataclasses.dataclass(frozen=True)
class MovieLens:
    """Everything that the protocols take from a data set.

    Attributes:
      source: which one it is.
      ratings: in the order of the file.
      users: a row per user: user_id, and gender, age and occupation where they are known.
      items: a row per title, in the order of the titles: title, release_year, genres. Films listed twice
        under one title are one, as in the tutorials, which know films by their titles.
    """

    source: str
    ratings: Ratings
    users: pd.DataFrame
    items: pd.DataFrame

    def fingerprint(self) -> str:
        """A hash of the ratings and of what is known of users and items."""
        digest = hashlib.sha256()
        for values in dataclasses.astuple(self.ratings):
            digest.update(values.tobytes())
        for table in (self.users, self.items):
            digest.update(table.to_json(orient="split").encode())
        return digest.hexdigest()[:16]


def read_movielens(folder: Path) -> MovieLens:
    """Reads an unpacked data set: 100k, 1M, 10M, latest-*.

    Args:
      folder: its files.

    Raises:
      EventLogError: see `sources.movielens.import_movielens`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "log"
        source = import_movielens(folder, out).source
        log = EventLog(out)
        users = pq.read_table(log.users_path).to_pandas()
        films = pq.read_table(log.items_path).to_pandas()
        columns = ["request_id", "user_id", "item_id", "timestamp"]
        files = [str(path) for paths in log.partitions().values() for path in paths]
        events = ds.dataset(files, format="parquet").to_table(columns=columns).to_pandas()
    events = events.iloc[np.argsort(events["request_id"].astype(np.int64).to_numpy())]  # the file's lines
    titles = films["title"] + films["release_year"].map(" ({:.0f})".format, na_action="ignore").fillna("")
    item_of_film, names = pd.factorize(titles, sort=True)
    items = films.groupby(item_of_film)[["release_year", "genres"]].first()
    items.insert(0, "title", names)
    ratings = Ratings(
        users=pd.Index(users["user_id"]).get_indexer(events["user_id"]).astype(np.int64),
        items=item_of_film[pd.Index(films["item_id"]).get_indexer(events["item_id"])].astype(np.int64),
        seconds=events["timestamp"].astype("int64").to_numpy() // 10**9,
    )
    return MovieLens(source, ratings, users, items)

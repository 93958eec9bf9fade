"""Users' behaviours out of an event log: who is held out, and which item stands beside a user's last one."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pa_dataset
import pyarrow.parquet as pq

from schemas import features as f
from sources.event_log import EventLog, EventLogError

MIN_BEHAVIOURS = 3  # a target, and two events whose order can say something


@dataclasses.dataclass(frozen=True)
class Behaviours:
    """What users did, user by user, each oldest first.

    Attributes:
      items: int32 [B] ids from 1.
      times: int64 [B] milliseconds since the epoch (UTC).
      starts: int64 [U + 1]; what user u did is from starts[u] to starts[u + 1], the end excluded.
      categories: int32 [I + 1] id from 1 of each item's category; 0 is the unknown item's.
      num_left_out: users who did too little.
    """

    items: np.ndarray
    times: np.ndarray
    starts: np.ndarray
    categories: np.ndarray
    num_left_out: int

    @property
    def num_users(self) -> int:
        """U."""
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Behaviours [U] of each user."""
        return np.diff(self.starts)

    @property
    def targets(self) -> np.ndarray:
        """The last item [U] of each user."""
        return self.items[self.starts[1:] - 1]

    @property
    def last_times(self) -> np.ndarray:
        """When they had it [U]."""
        return self.times[self.starts[1:] - 1]


@dataclasses.dataclass(frozen=True)
class UserSplit:
    """Users by what they are for; nobody is in two parts.

    Attributes:
      train: int64 numbers.
      evaluation: likewise.
      test: likewise.
    """

    train: np.ndarray
    evaluation: np.ndarray
    test: np.ndarray


def read_behaviours(log: EventLog) -> Behaviours:
    """The clicks of all users with `MIN_BEHAVIOURS` or more.

    Events of one user and time are in the order of their requests' numbers, which are the lines of the file
    that was imported.

    Args:
      log: written by `winnow import amazon`.

    Raises:
      EventLogError: if nobody has so many, or all items are of one category.
    """
    users = pq.read_table(log.users_path, columns=[f.USER_ID]).column(0).combine_chunks()
    catalogue = pq.read_table(log.items_path, columns=[f.ITEM_ID, f.CATEGORY])
    category = catalogue.column(f.CATEGORY).combine_chunks().dictionary_encode()
    if len(category.dictionary) < 2:
        raise EventLogError(
            f"{log.items_path}, category: expected several, got {category.dictionary.to_pylist()} for all of "
            f"{len(category):,} items. The protocol's histories are of items and categories: put the "
            "metadata (meta_*) that has them beside the reviews."
        )
    files = [str(path) for paths in log.partitions().values() for path in paths]
    columns = [f.REQUEST_ID, f.USER_ID, f.ITEM_ID, f.TIMESTAMP]
    events = pa_dataset.dataset(files, format="parquet").to_table(columns=columns)
    user = _find(events.column(f.USER_ID), users)
    line = events.column(f.REQUEST_ID).cast(pa.int64()).to_numpy()
    times = events.column(f.TIMESTAMP).cast(pa.int64()).to_numpy()
    counts = np.bincount(user, minlength=len(users))
    order = np.lexsort((line, times, user))
    order = order[counts[user[order]] >= MIN_BEHAVIOURS]
    if not len(order):
        raise EventLogError(
            f"{log.path}: none of {len(users):,} users has {MIN_BEHAVIOURS} reviews. Give a larger category, "
            "such as a 5-core file."
        )
    items = _find(events.column(f.ITEM_ID), catalogue.column(f.ITEM_ID).combine_chunks()) + 1
    return Behaviours(
        items=items[order],
        times=times[order],
        starts=np.append(0, np.cumsum(counts[counts >= MIN_BEHAVIOURS])),
        categories=np.append(0, category.indices.to_numpy() + 1).astype(np.int32),
        num_left_out=int((counts < MIN_BEHAVIOURS).sum()),
    )


def _find(values: pa.ChunkedArray, known: pa.Array) -> np.ndarray:
    """The place [n] of each value among the known ones, int32."""
    return pc.index_in(values, value_set=known).to_numpy()


def split_users(num_users: int, rng: np.random.Generator) -> UserSplit:
    """A tenth of the users, drawn at random, for the test; a tenth of the others for the choice of the epoch.

    Args:
      num_users: U.
      rng: draws them.

    Raises:
      EventLogError: if a part would be empty.
    """
    shuffled = rng.permutation(num_users)
    num_test = num_users // 10
    num_evaluation = (num_users - num_test) // 10
    if not (num_test and num_evaluation):
        raise EventLogError(
            f"{num_users} users have {MIN_BEHAVIOURS} reviews or more: expected enough to hold out a tenth, "
            "and a tenth of the others. Give a larger category."
        )
    test, evaluation, train = np.split(shuffled, [num_test, num_test + num_evaluation])
    return UserSplit(train, evaluation, test)


def draw_negatives(behaviours: Behaviours, rng: np.random.Generator) -> np.ndarray:
    """For each user an item that is none of their own, in proportion to the items' behaviours.

    Those that turn out to be the user's own are drawn again, all together, until none is.

    Args:
      behaviours: of all users.
      rng: draws them.

    Returns:
      int32 [U] ids.

    Raises:
      EventLogError: if a user has every item there is.
    """
    num_ids = len(behaviours.categories)
    owner = np.repeat(np.arange(behaviours.num_users), behaviours.lengths)
    own = np.unique(owner * num_ids + behaviours.items)
    num_items = len(np.unique(behaviours.items))
    if (np.bincount(own // num_ids) == num_items).any():
        raise EventLogError(
            f"a user has reviewed all of {num_items} items, so that none is left beside the last one. Give a "
            "larger category."
        )
    negatives = np.zeros(behaviours.num_users, np.int32)
    left = np.arange(behaviours.num_users)
    while len(left):
        negatives[left] = rng.choice(behaviours.items, len(left))
        keys = left * num_ids + negatives[left]
        places = np.minimum(np.searchsorted(own, keys), len(own) - 1)
        left = left[own[places] == keys]
    return negatives

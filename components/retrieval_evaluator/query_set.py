"""The queries of a split: what is asked, what was clicked before it, and what is left out of the answer.

Where seen items are left out, a click on an item that the user clicked before is no query: the right answer
could not be given. (To leave out all seen items but that one would give it away.)
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import tensorflow as tf
from scipy import sparse

from components.retrieval_evaluator import queries as q
from components.retrieval_evaluator.row_lists import RowLists
from schemas import features as f

SPLITS = ("train", "eval", "test")
_BATCH = 128


@dataclasses.dataclass(frozen=True)
class QueryBatch:
    """Q queries. A clicked row is one; its right answer is the item that was clicked.

    Attributes:
      catalogue: the N items that are ranked; a row below is a row of it.
      examples: [Q] serialized tf.Examples, raw.
      users: [Q] user ids.
      timestamps: [Q] milliseconds.
      targets: [Q] item ids.
      target_rows: [Q] the targets' rows, -1 for an item that the catalogue lacks.
      clicked_before: [Q] lists of the rows that the user clicked strictly before the query, oldest first.
      excluded: [Q] lists of the rows that are left out of the answer.
      known_user: [Q] whether the user has a row, clicked or not, in the training split.
      new_item: [Q] whether the target has no click in the training split.
    """

    catalogue: q.Catalogue
    examples: np.ndarray
    users: np.ndarray
    timestamps: np.ndarray
    targets: np.ndarray
    target_rows: np.ndarray
    clicked_before: RowLists
    excluded: RowLists
    known_user: np.ndarray
    new_item: np.ndarray

    @functools.cached_property
    def history(self) -> sparse.csr_matrix:
        """What the examples hold of the user's clicks, the newest 50: [Q, N], ones."""
        spec = {f.HISTORY_ITEM_ID: tf.io.RaggedFeature(tf.string)}
        history = tf.io.parse_example(self.examples, spec)[f.HISTORY_ITEM_ID]
        return self._to_matrix(
            history.row_lengths().numpy(), self.catalogue.find(history.flat_values.numpy())
        )

    @functools.cached_property
    def whole_history(self) -> sparse.csr_matrix:
        """All that the user clicked strictly before the query: [Q, N], ones."""
        return self._to_matrix(self.clicked_before.lengths, self.clicked_before.rows)

    def _to_matrix(self, lengths: np.ndarray, rows: np.ndarray) -> sparse.csr_matrix:
        owners = np.repeat(np.arange(len(lengths)), lengths)[rows >= 0]
        shape = (len(lengths), len(self.catalogue))
        matrix = sparse.csr_matrix((np.ones(len(owners), np.float32), (owners, rows[rows >= 0])), shape)
        matrix.data[:] = 1.0  # the constructor adds up what was clicked twice
        return matrix


class QuerySet:
    """The queries of a split, streamed in batches from raw examples.

    Args:
      impressions_uri: raw impression examples with the splits train, eval and test.
      item_patterns: raw item examples: the catalogue that is ranked.
      exclude_seen: whether what the user clicked before the query is left out of the answer.
      split: the split that asks.

    Attributes:
      catalogue: the items.
      train_clicks: [N] clicks of each item in the training split.
      num_clicks: clicked rows of the split; with seen items left out some are no queries.
      users: the users who click in it, sorted.

    Raises:
      ValueError: if the split holds no clicked row.
    """

    def __init__(
        self, impressions_uri: str, item_patterns: Sequence[str], exclude_seen: bool, split: str = "test"
    ):
        patterns = {name: [f"{impressions_uri}/Split-{name}/*"] for name in SPLITS}
        self.catalogue = q.read_catalogue(item_patterns)
        clicking_users = q.read_clicks(patterns[split]).users
        self.num_clicks = len(clicking_users)
        self.users = np.unique(clicking_users)
        if not len(self.users):
            raise ValueError(f"the {split} split holds no clicked row: nothing to evaluate on")
        self.train_clicks = q.count_clicks(patterns["train"], self.catalogue)
        self._clicks = q.read_clicks([p for ps in patterns.values() for p in ps], self.users)
        self._known_users = pd.Index(q.read_users(patterns["train"]))
        self._patterns = patterns[split]
        self._exclude_seen = exclude_seen

    def __iter__(self) -> Iterator[QueryBatch]:
        """Reads the split anew."""
        seen = q.SeenItems(self._clicks, self.catalogue)
        for examples, columns in q.iterate_queries(self._patterns, _BATCH):
            target_rows = self.catalogue.find(columns[f.ITEM_ID])
            clicked_before = seen.before(columns[f.USER_ID], columns[f.TIMESTAMP])
            asked = np.arange(len(examples))
            if self._exclude_seen:
                asked = np.flatnonzero(~_is_repeat(clicked_before, target_rows))
            if not len(asked):
                continue
            users, target_rows = columns[f.USER_ID][asked], target_rows[asked]
            clicked_before = clicked_before.take(asked)
            yield QueryBatch(
                catalogue=self.catalogue,
                examples=examples[asked],
                users=users,
                timestamps=columns[f.TIMESTAMP][asked],
                targets=columns[f.ITEM_ID][asked],
                target_rows=target_rows,
                clicked_before=clicked_before,
                excluded=clicked_before if self._exclude_seen else RowLists.empty(len(asked)),
                known_user=self._known_users.get_indexer(users) >= 0,
                new_item=(target_rows < 0) | (self.train_clicks[np.maximum(target_rows, 0)] == 0),
            )


def _is_repeat(clicked_before: RowLists, target_rows: np.ndarray) -> np.ndarray:
    """Whether each target [Q] is among what its user clicked before."""
    owners = clicked_before.owners
    hits = clicked_before.rows == target_rows[owners]
    return np.bincount(owners[hits], minlength=len(clicked_before)) > 0

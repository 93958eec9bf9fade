"""Lists of catalogue rows, one for each query, laid out one after the other."""

from collections.abc import Sequence
from typing import overload

import numpy as np


class RowLists(Sequence[np.ndarray]):
    """Q lists of rows of the catalogue; reads as a sequence of Q arrays.

    Args:
      rows: [R] the lists, one after the other.
      lengths: [Q] how many rows each has; they add up to R.

    Attributes:
      rows: [R] int64.
      lengths: [Q] int64.
    """

    def __init__(self, rows: np.ndarray, lengths: np.ndarray):
        self.rows: np.ndarray = np.asarray(rows, np.int64)
        self.lengths: np.ndarray = np.asarray(lengths, np.int64)
        self._ends: np.ndarray = np.cumsum(self.lengths)

    @classmethod
    def empty(cls, num_lists: int) -> "RowLists":
        """Lists that hold nothing."""
        return cls(np.empty(0, np.int64), np.zeros(num_lists, np.int64))

    @property
    def owners(self) -> np.ndarray:
        """[R] the number of the list that each of `rows` is in."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def __len__(self) -> int:
        """The number of lists Q."""
        return len(self.lengths)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, index: slice) -> "RowLists": ...

    def __getitem__(self, index: int | slice) -> "np.ndarray | RowLists":
        """One list, or some of them."""
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        end = self._ends[index]
        return self.rows[end - self.lengths[index] : end]

    def take(self, lists: np.ndarray) -> "RowLists":
        """Some of the lists, in the order asked for."""
        lengths = self.lengths[lists]
        return RowLists(self.rows[spread(self._ends[lists] - lengths, lengths)], lengths)

    def append(self, rows: np.ndarray) -> "RowLists":
        """Each list with one row more.

        Args:
          rows: [Q] the rows; a list that is given -1 stays as it is.
        """
        has_row = rows >= 0
        longer = np.insert(self.rows, self._ends[has_row], rows[has_row])
        return RowLists(longer, self.lengths + has_row)

    def distinct(self, num_rows: int) -> "RowLists":
        """Each list with every row once, ascending.

        Args:
          num_rows: the size of the catalogue.
        """
        # One number for a list and a row, so that one sort serves all lists and none meets another's rows.
        keys = np.unique(self.owners * num_rows + self.rows)
        return RowLists(keys % num_rows, np.bincount(keys // num_rows, minlength=len(self)))


def spread(begin: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The indexes of the ranges that begin at `begin` [Q], `lengths` [Q] long, one after the other."""
    offsets = np.cumsum(lengths) - lengths
    return np.repeat(begin - offsets, lengths) + np.arange(lengths.sum())

"""A part of a file as a table, which can say where in the file a value stands."""

import abc
import dataclasses
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from sources.event_log import EventLogError


@dataclasses.dataclass(frozen=True)
class FilePart(abc.ABC):
    """Some rows of a file.

    Attributes:
      path: the file, for messages.
      table: the values.
      remedy: what to do about a wrong value; the end of every message.
    """

    path: Path
    table: pa.Table
    remedy: ClassVar[str]

    @abc.abstractmethod
    def place(self, row: int) -> str:
        """Where a row of the table stands in the file, e.g. "line 12"."""

    def column(self, name: str) -> pa.ChunkedArray:
        """The values of a column."""
        return self.table.column(name)

    def refuse(self, mask: pa.ChunkedArray, column: str, expected: str) -> None:
        """Raises for the first row of a mask; null counts as false.

        Raises:
          EventLogError: naming file, place, column, what was expected and what stands there.
        """
        row = pc.index(mask, True).as_py()
        if row >= 0:
            value = self.column(column)[row].as_py()
            raise EventLogError(
                f"{self.path}, {self.place(row)}, {column}: expected {expected}, got {value!r}. {self.remedy}"
            )

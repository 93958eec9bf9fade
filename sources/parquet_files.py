"""Parquet files, read in batches, so that an error can name the row it is on.

Memory is bounded by a batch of 65,536 rows and the row group it is cut from.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from sources.event_log import EventLogError, conform
from sources.file_part import FilePart

BATCH_ROWS = 1 << 16
REMEDY = "Correct it where the log is made, and export it again."


@dataclasses.dataclass(frozen=True)
class Rows(FilePart):
    """Some rows of a Parquet file.

    Attributes:
      first_row: the number of the first of the rows; the file's first row is 0.
    """

    first_row: int
    remedy: ClassVar[str] = REMEDY

    def place(self, row: int) -> str:
        """See `FilePart`."""
        return f"row {self.first_row + row}"

    def conform(self, columns: pa.Schema) -> "Rows":
        """The rows with the contract's columns in its types.

        Raises:
          EventLogError: if a string is not UTF-8, a required value is null, or a value does not fit.
        """
        for name in self.table.column_names:
            self._refuse_invalid_text(name)
        for field in columns:
            if not field.nullable:
                self.refuse(self.column(field.name).is_null(), field.name, str(field.type))
        try:
            return dataclasses.replace(self, table=conform(self.table, columns))
        except EventLogError as error:
            raise EventLogError(f"{self.path}, rows from {self.first_row}, {error}. {REMEDY}") from error

    def _refuse_invalid_text(self, name: str) -> None:
        column = self.column(name)
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            row = next(row for row in range(len(column)) if not _is_valid(column.slice(row, 1)))
            raise EventLogError(
                f"{self.path}, {self.place(row)}, {name}: expected UTF-8 text ({error}). {REMEDY}"
            ) from error


def _is_valid(column: pa.ChunkedArray) -> bool:
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def read_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[Rows]:
    """The rows of a file, batch by batch.

    Raises:
      EventLogError: if the file is not Parquet or is cut short.
      OSError: if it may not be read.
    """
    with _naming(path), pq.ParquetFile(path) as file:
        first_row = 0
        for batch in file.iter_batches(BATCH_ROWS, columns=columns, use_threads=False):
            yield Rows(path, pa.Table.from_batches([batch]), first_row)
            first_row += batch.num_rows


def read_layout(path: Path) -> tuple[pa.Schema, int]:
    """The schema and the number of rows of a file.

    Raises:
      EventLogError: if the file is not Parquet or is cut short.
      OSError: if it may not be read.
    """
    with _naming(path), pq.ParquetFile(path) as file:
        return file.schema_arrow, file.metadata.num_rows


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Names the file in what Arrow raises about it."""
    try:
        yield
    except (PermissionError, FileNotFoundError):
        raise
    except (pa.ArrowException, OSError) as error:
        raise EventLogError(
            f"{path}: cannot be read as Parquet ({error}). It is cut short or of another format: "
            "deliver it again."
        ) from error

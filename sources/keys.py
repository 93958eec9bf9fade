"""Keys of tables larger than memory: which occur twice, and which occur at all.

A key is remembered as a 64-bit hash, 8 bytes whatever its length.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sources.event_log import EventLogError
from sources.parquet_files import REMEDY, Rows, read_layout, read_rows

# 128 MiB of hashes at a time; the columns of the key are read once for each so many rows.
KEYS_PER_PASS = 1 << 24


class KnownIds:
    """Whether an id is in a file.

    Two ids in 2**64 share a hash, so that an unknown id passes for known with a chance of n / 2**64.

    Args:
      path: a Parquet file.
      column: the column of the ids.
    """

    def __init__(self, path: Path, column: str):
        self.path = path
        parts = [_hash(rows.table) for rows in read_rows(path, [column])]
        self._hashes = np.sort(np.concatenate([np.empty(0, np.uint64), *parts]))

    def __len__(self) -> int:
        """How many ids there are."""
        return len(self._hashes)

    def refuse_others(self, rows: Rows, column: str) -> None:
        """Checks a column against the ids.

        Raises:
          EventLogError: naming the first row whose id is not among them.
        """
        ids = pc.unique(rows.column(column))
        hashes = _hash(pa.table({column: ids}))
        places = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        unknown = ids.filter(pa.array(self._hashes[places] != hashes))
        if len(unknown):
            rows.refuse(pc.is_in(rows.column(column), unknown), column, f"an id that {self.path.name} lists")


def refuse_repeated(paths: Sequence[Path], columns: Sequence[str]) -> None:
    """Checks that no two rows of some Parquet files have the same key.

    Args:
      paths: the files.
      columns: the string columns that make the key.

    Raises:
      EventLogError: naming a row whose key an earlier row has, and that row.
    """
    num_rows = sum(read_layout(path)[1] for path in paths)
    num_passes = -(-num_rows // KEYS_PER_PASS)
    for current in range(num_passes):
        parts = [hashes[hashes % num_passes == current] for _, hashes in _read_hashes(paths, columns)]
        hashes = np.sort(np.concatenate(parts))
        repeated = hashes[1:][hashes[1:] == hashes[:-1]]
        if len(repeated):
            _refuse_first(paths, columns, repeated)


def _refuse_first(paths: Sequence[Path], columns: Sequence[str], repeated: np.ndarray) -> None:
    """Compares the keys themselves, as two may share a hash."""
    seen: dict[tuple[str, ...], str] = {}
    for rows, hashes in _read_hashes(paths, columns):
        for row in np.flatnonzero(np.isin(hashes, repeated)).tolist():
            key = tuple(rows.column(name)[row].as_py() for name in columns)
            place = f"{rows.path}, row {rows.first_row + row}"
            if key in seen:
                raise EventLogError(
                    f"{place}, {' and '.join(columns)}: expected a value that no other row has, got "
                    f"{', '.join(map(repr, key))}, as in {seen[key]}. {REMEDY}"
                )
            seen[key] = place


def _read_hashes(paths: Sequence[Path], columns: Sequence[str]) -> Iterator[tuple[Rows, np.ndarray]]:
    for path in paths:
        for rows in read_rows(path, columns):
            yield rows, _hash(rows.table)


def _hash(table: pa.Table) -> np.ndarray:
    hashes = np.zeros(table.num_rows, np.uint64)
    for column in table.columns:
        # Faster than pandas' own hash of a frame on the many small files of a log with many days.
        values = pd.util.hash_array(column.to_numpy().astype(object), categorize=False)
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + values
    return hashes

"""Delimited text, read in blocks of whole lines, so that an error can name the line it is on.

Memory is bounded by the block (16 MiB of text), not by the file.
"""

import codecs
import csv
import dataclasses
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from sources.event_log import TIMESTAMP, EventLogError
from sources.file_part import FilePart
from sources.ratings import FIRST_SECOND, LAST_SECOND, TIMES

BLOCK_BYTES = 1 << 24
_SINGLE_DELIMITER = "\x1f"  # what "::" becomes: Arrow splits at one character


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a delimited file is written.

    Attributes:
      columns: every column of a line, in order.
      delimiter: what stands between two columns.
      encoding: "utf-8" or "latin-1".
      has_header: whether the first line names the columns; values may be quoted in such files only.
    """

    columns: tuple[str, ...]
    delimiter: str = ","
    encoding: str = "utf-8"
    has_header: bool = False


@dataclasses.dataclass(frozen=True)
class Lines(FilePart):
    """Parsed lines; one row is one line.

    Attributes:
      first_line: the number of the line of row 0.
    """

    first_line: int
    remedy: ClassVar[str] = "Correct or remove the line; nothing was written."

    def place(self, row: int) -> str:
        """See `FilePart`."""
        return f"line {self.first_line + row}"

    def ids(self, name: str) -> pa.ChunkedArray:
        """A column of ids.

        Raises:
          EventLogError: if one is empty.
        """
        self.refuse(pc.equal(self.column(name), ""), name, "an id")
        return self.column(name)

    def numbers(self, name: str, low: float, high: float) -> pa.ChunkedArray:
        """A column of numbers, float32.

        Raises:
          EventLogError: if one is none, or is out of range.
        """
        expected = f"a number from {low} to {high}"
        text = self.column(name)
        self.refuse(pc.invert(pc.match_substring_regex(text, r"^[0-9]+(\.[0-9]+)?$")), name, expected)
        values = text.cast(pa.float32())
        in_range = pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high))
        self.refuse(pc.invert(in_range), name, expected)
        return values

    def times(self, name: str) -> pa.ChunkedArray:
        """A column of seconds since 1970, as timestamps.

        Raises:
          EventLogError: if one is no whole number, or is no time that a rating can have (the usual reason
            being milliseconds).
        """
        expected = f"whole seconds {TIMES}"
        text = self.column(name)
        self.refuse(pc.invert(pc.match_substring_regex(text, r"^[0-9]{1,11}$")), name, expected)
        seconds = text.cast(pa.int64())
        in_range = pc.and_(pc.greater_equal(seconds, FIRST_SECOND), pc.less_equal(seconds, LAST_SECOND))
        self.refuse(pc.invert(in_range), name, expected)
        return pc.multiply(seconds, 1000).cast(TIMESTAMP)


def read_lines(path: Path, layout: Layout) -> Iterator[tuple[int, Lines]]:
    """The parsed lines of a file, block by block, every value a string.

    Args:
      path: the file.
      layout: how it is written.

    Yields:
      how many bytes were read so far, and the lines.

    Raises:
      EventLogError: if the file is empty, or a line has the wrong number of columns or is not in the
        layout's encoding.
    """
    has_rows = False
    with path.open("rb") as stream:
        for line, block in read_blocks(path, stream):
            first_line, rows = _skip_head(path, block, layout) if line == 1 else (line, block)
            if rows:
                has_rows = True
                yield stream.tell(), Lines(path, _parse(path, first_line, rows, layout), first_line)
    if not has_rows:
        raise EventLogError(
            f"{path}: is empty. Expected lines of {', '.join(layout.columns)}; download it again."
        )


def read_all_lines(path: Path, layout: Layout) -> Lines:
    """The parsed lines of a file that fits in memory.

    Raises:
      EventLogError: as `read_lines`.
    """
    table = pa.concat_tables(lines.table for _, lines in read_lines(path, layout))
    return Lines(path, table, 1 + layout.has_header)


def read_blocks(path: Path, stream: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Cuts a stream into blocks of whole lines.

    Yields:
      the number of the block's first line, from 1, and the block, which ends in a line break.

    Raises:
      EventLogError: if a line is longer than a block, as in a file that is not text.
    """
    first_line, rest = 1, b""
    while chunk := stream.read(BLOCK_BYTES):
        chunk = rest + chunk
        end = chunk.rfind(b"\n") + 1
        block, rest = chunk[:end], chunk[end:]
        if len(rest) > BLOCK_BYTES:
            raise EventLogError(f"{path}, line {first_line}: longer than {BLOCK_BYTES} bytes. Expected text.")
        if block:
            yield first_line, block
            first_line += block.count(b"\n")
    if rest:
        yield first_line, rest + b"\n"


def _skip_head(path: Path, block: bytes, layout: Layout) -> tuple[int, bytes]:
    """Cuts a file's first block to its rows; returns the line of the first one too."""
    if layout.encoding == "utf-8":
        block = block.removeprefix(codecs.BOM_UTF8)  # what a spreadsheet writes first
    return (2, _skip_header(path, block, layout)) if layout.has_header else (1, block)


def _skip_header(path: Path, block: bytes, layout: Layout) -> bytes:
    header, _, block = block.partition(b"\n")
    expected = layout.delimiter.join(layout.columns)
    if header.strip() != expected.encode():
        raise EventLogError(
            f"{path}, line 1: expected the header {expected!r}, got {header[:100].decode('latin-1')!r}. "
            "Download the data set again."
        )
    return block


def _parse(path: Path, first_line: int, block: bytes, layout: Layout) -> pa.Table:
    text = _decode(path, first_line, block, layout)
    delimiter = layout.delimiter
    if len(delimiter) > 1:
        text, delimiter = text.replace(delimiter, _SINGLE_DELIMITER), _SINGLE_DELIMITER

    invalid: list[pacsv.InvalidRow] = []

    def keep_first(row: pacsv.InvalidRow) -> str:
        invalid.append(row)  # Arrow swallows what a handler raises
        return "error"

    try:
        table = pacsv.read_csv(
            io.BytesIO(text.encode()),
            # One thread, one block: a row's number counts from the block's start.
            pacsv.ReadOptions(use_threads=False, block_size=len(block) * 2, column_names=layout.columns),
            pacsv.ParseOptions(
                delimiter=delimiter,
                quote_char='"' if layout.has_header else False,
                ignore_empty_lines=False,  # a skipped line would shift the numbers of those after it
                invalid_row_handler=keep_first,
            ),
            pacsv.ConvertOptions(column_types=dict.fromkeys(layout.columns, pa.string())),
        )
    except pa.ArrowInvalid as error:
        line, problem = first_line, str(error)
        if invalid:
            line = first_line + invalid[0].number - 1
            problem = f"got {invalid[0].actual_columns}: {invalid[0].text[:80]!r}"
        raise EventLogError(_not_this_layout(path, line, layout, problem)) from error
    if table.num_rows != block.count(b"\n"):
        raise EventLogError(_not_this_layout(path, first_line, layout, "got a value with a line break in it"))
    return table


def _not_this_layout(path: Path, line: int, layout: Layout, problem: str) -> str:
    return (
        f"{path}, line {line}: expected {len(layout.columns)} columns ({', '.join(layout.columns)}), "
        f"{problem}. The file is cut short or not of this data set: download it again; nothing was written."
    )


def _decode(path: Path, first_line: int, block: bytes, layout: Layout) -> str:
    try:
        return block.decode(layout.encoding)
    except UnicodeDecodeError as error:
        line = first_line + block.count(b"\n", 0, error.start)
        before = block[block.rfind(b"\n", 0, error.start) + 1 : error.start].decode("latin-1")
        column = layout.columns[_column_at_end(before, layout)]
        raise EventLogError(
            f"{path}, line {line}, {column}: expected {layout.encoding.upper()}, got the byte "
            f"0x{block[error.start]:02x} ({error.reason}). Convert the file to {layout.encoding.upper()}, "
            "with `iconv` for instance; nothing was written."
        ) from error


def _column_at_end(text: str, layout: Layout) -> int:
    if not layout.has_header:
        return text.count(layout.delimiter)
    values: Sequence[str] = next(csv.reader([text], delimiter=layout.delimiter), [""])
    return min(len(values), len(layout.columns)) - 1

"""Amazon reviews (JSON lines) as an event log: the 2014, 2018 and 2023 releases.

Every review is one impression that was shown and clicked. Reviews are streamed (see `write_ratings` for the
bound); of the metadata only the items that have a review are kept in memory.
"""

import dataclasses
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pajson

from sources.amazon_metadata import make_items, read_items
from sources.event_log import TIMESTAMP, EventLogError, Manifest, Progress, create_event_log
from sources.ratings import FIRST_SECOND, LAST_SECOND, RATING_COLUMNS, TIMES, write_ratings
from sources.text_files import read_blocks

MANIFEST = Manifest(source="amazon", schema="amazon")

_SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
_LINES_AT_ONCE = 50_000


@dataclasses.dataclass(frozen=True)
class _Release:
    """What a release calls the fields of a review."""

    user: str
    item: str
    rating: str
    time: str
    milliseconds: int  # in one unit of `time`

    @property
    def schema(self) -> pa.Schema:
        return pa.schema(
            [
                (self.user, pa.string()),
                (self.item, pa.string()),
                (self.rating, pa.float64()),
                (self.time, pa.int64()),
            ]
        )


_RELEASES = (
    _Release("reviewerID", "asin", "overall", "unixReviewTime", milliseconds=1000),  # 2014 and 2018
    _Release("user_id", "parent_asin", "rating", "timestamp", milliseconds=1),  # 2023
)


def import_amazon(
    src: str | Path, out: str | Path, metadata: str | Path | None = None, progress: Progress | None = None
) -> Manifest:
    """Writes Amazon reviews as an event log.

    Args:
      src: the file of reviews, plain or .gz, or a directory with it and, where there is one, a file of
        metadata whose name begins with "meta".
      out: where the event log goes.
      metadata: the file of metadata, where it is not beside the reviews in `src`.
      progress: told how much is done.

    Returns:
      what the log says of itself.

    Raises:
      EventLogError: if the files are not those, or a line cannot be used; nothing is left at `out`.
      OSError: if something cannot be read or written.
    """
    reviews, beside = _find_files(Path(src))
    meta = Path(metadata) if metadata else beside
    if meta and not meta.is_file():  # read last, after an hour of reviews
        problem = "a directory" if meta.is_dir() else "no such file"
        raise EventLogError(
            f"{meta}: {problem}. Expected a file of metadata, .json or .json.gz; give it as --metadata."
        )
    with create_event_log(out, MANIFEST) as writer:
        users, items = write_ratings(writer, _read_reviews(reviews, progress), progress)
        writer.write_users(pa.table({"user_id": users}))
        if meta:
            with _open(meta) as (stream, _):
                writer.write_items(read_items(meta, stream, items))
        else:
            writer.write_items(make_items(items, {}))
    return MANIFEST


def _find_files(src: Path) -> tuple[Path, Path | None]:
    if src.is_file():
        return src, None
    if not src.is_dir():
        raise EventLogError(f"{src}: no such file or directory. Expected Amazon reviews, .json or .json.gz.")
    found = sorted(path for path in src.iterdir() if path.name.endswith(_SUFFIXES))
    meta = [path for path in found if path.name.lower().startswith("meta")]
    reviews = [path for path in found if path not in meta]
    if len(reviews) != 1 or len(meta) > 1:
        names = ", ".join(path.name for path in found[:20]) or "none"
        raise EventLogError(
            f"{src}: expected one file of reviews and at most one of metadata (meta*), each ending in "
            f"{', '.join(_SUFFIXES)}; found: {names}. Give the file of reviews itself, or move the others "
            "away."
        )
    return reviews[0], meta[0] if meta else None


@contextmanager
def _open(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Opens a file, plain or .gz, and names it in what is wrong with its compression.

    Yields:
      the content, unpacked, and the file itself, whose position is how far the reading is.
    """
    with path.open("rb") as raw:
        if path.suffix != ".gz":
            yield raw, raw
            return
        try:
            with gzip.GzipFile(fileobj=raw) as stream:
                yield cast(IO[bytes], stream), raw
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise EventLogError(
                f"{path}: cannot be unpacked ({error}). The file is cut short or no gzip: download it again; "
                "nothing was written."
            ) from error


def _read_reviews(path: Path, progress: Progress | None) -> Iterator[pa.Table]:
    release = None
    size = path.stat().st_size
    with _open(path) as (stream, raw):
        for first_line, block in read_blocks(path, stream):
            release = release or _detect(path, block)
            yield _as_ratings(path, first_line, _parse(path, first_line, block, release), release)
            if progress:
                progress("reading reviews", raw.tell(), size)
    if release is None:
        raise EventLogError(f"{path}: is empty. Expected one review per line; download it again.")


def _detect(path: Path, block: bytes) -> _Release:
    line = block[: block.index(b"\n")]
    try:
        fields = set(json.loads(line))
    except (ValueError, TypeError):
        fields = set()
    for release in _RELEASES:
        if set(release.schema.names) <= fields:
            return release
    expected = " or ".join(", ".join(release.schema.names) for release in _RELEASES)
    raise EventLogError(
        f"{path}, line 1: expected a JSON object with {expected}, got {line[:80].decode('latin-1')!r}. "
        "Give the file of reviews, not of metadata."
    )


def _parse(path: Path, first_line: int, block: bytes, release: _Release) -> pa.Table:
    # Arrow reads 100,000 lines at once, no more: short ones in parts.
    parts = 1 + block.count(b"\n") // _LINES_AT_ONCE
    try:
        table = pajson.read_json(
            io.BytesIO(block),
            pajson.ReadOptions(use_threads=False, block_size=-(-len(block) // parts)),
            pajson.ParseOptions(explicit_schema=release.schema, unexpected_field_behavior="ignore"),
        )
        table.validate(full=True)
        if table.num_rows == block.count(b"\n"):
            return table
        problem = "a line without a review"
    except pa.ArrowInvalid as error:
        problem = str(error)
    raise EventLogError(_find_bad_line(path, first_line, block, release, problem))


def _find_bad_line(path: Path, first_line: int, block: bytes, release: _Release, problem: str) -> str:
    """Arrow does not say which line it could not read: looks at one after the other."""
    types = {release.user: str, release.item: str, release.rating: int | float, release.time: int}
    remedy = "Correct or remove the line; nothing was written."
    for number, line in enumerate(block[:-1].split(b"\n"), start=first_line):
        try:
            review = json.loads(line)
        except ValueError as error:
            return f"{path}, line {number}: expected one JSON object ({error}). {remedy}"
        for name, kind in types.items():
            value = review.get(name) if isinstance(review, dict) else None
            if value is not None and not isinstance(value, kind):
                expected = getattr(kind, "__name__", "a number")
                return f"{path}, line {number}, {name}: expected {expected}, got {value!r}. {remedy}"
    return f"{path}, lines from {first_line}: expected one JSON object per line ({problem}). {remedy}"


def _as_ratings(path: Path, first_line: int, reviews: pa.Table, release: _Release) -> pa.Table:
    user, item, rating, time = reviews.columns
    units = 1000 // release.milliseconds  # in a second
    checks = (
        (release.user, pc.not_equal(user, ""), "an id"),
        (release.item, pc.not_equal(item, ""), "an id"),
        (release.rating, _between(rating, 1, 5), "a number from 1 to 5"),
        (
            release.time,
            _between(time, FIRST_SECOND * units, (LAST_SECOND + 1) * units - 1),
            f"{'whole seconds' if units == 1 else 'milliseconds'} {TIMES}",
        ),
    )
    for name, mask, expected in checks:
        row = pc.index(pc.fill_null(mask, False), False).as_py()
        if row >= 0:
            raise EventLogError(
                f"{path}, line {first_line + row}, {name}: expected {expected}, got "
                f"{reviews.column(name)[row].as_py()!r}. Correct or remove the line; nothing was written."
            )
    lines = pa.array(np.arange(first_line, first_line + reviews.num_rows))
    times = pc.multiply(time, release.milliseconds).cast(TIMESTAMP)
    return pa.table([lines, user, item, times, rating.cast(pa.float32())], schema=RATING_COLUMNS)


def _between(values: pa.ChunkedArray, low: float, high: float) -> pa.ChunkedArray:
    return pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high))

"""MovieLens as an event log: 100k, 1M, 10M and latest-*, which 20M, 25M and 32M are written like.

Every rating is one impression that was shown and clicked; there is no impression that was not rated.
Ratings are streamed (see `write_ratings` for the bound); the catalogue and the users fit in memory.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sources.event_log import TIMESTAMP, EventLogError, Manifest, Progress, create_event_log
from sources.ratings import RATING_COLUMNS, write_ratings
from sources.text_files import Layout, Lines, read_all_lines, read_lines

SCHEMA = "movielens"
UNKNOWN_CATEGORY = "unknown"

# The 19 flags at the end of a line of u.item, in the order of u.genre.
_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
_NO_GENRES = ("unknown", "(no genres listed)", "")

# "Toy Story (1995)", "Death Note (2006–2007)", "Land Before Time III (1995) (V)"
_TITLE = r"^(?P<name>.*?)\s*\((?P<year>[0-9]{4})(?:[–-](?:[0-9]{4})?)?\)\s*(?P<kind>(?:\([A-Z]+\))?)\s*$"


@dataclasses.dataclass(frozen=True)
class _DataSet:
    """One way MovieLens is published: `users` is None where nothing is known of the users."""

    source: str
    ratings_file: str
    ratings: Layout
    items_file: str
    items: Layout
    users_file: str | None = None
    users: Layout | None = None
    told_by: str | None = None  # a file that no other data set has

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.ratings_file, self.items_file, self.users_file, self.told_by)))


_RATING = ("userId", "movieId", "rating", "timestamp")
_MOVIE = ("movieId", "title", "genres")

_DATA_SETS = (
    _DataSet(
        "movielens-100k",
        "u.data",
        Layout(_RATING, "\t", "latin-1"),
        "u.item",
        Layout(("movieId", "title", "released", "released_on_video", "url", *_GENRES), "|", "latin-1"),
        "u.user",
        Layout(("userId", "age", "gender", "occupation", "zip"), "|", "latin-1"),
    ),
    _DataSet(
        "movielens-1m",
        "ratings.dat",
        Layout(_RATING, "::", "latin-1"),
        "movies.dat",
        Layout(_MOVIE, "::", "latin-1"),
        "users.dat",
        Layout(("userId", "gender", "age", "occupation", "zip"), "::", "latin-1"),
    ),
    _DataSet(
        "movielens-10m",
        "ratings.dat",
        Layout(_RATING, "::"),
        "movies.dat",
        Layout(_MOVIE, "::"),
        told_by="tags.dat",
    ),
    _DataSet(
        "movielens-latest",
        "ratings.csv",
        Layout(_RATING, has_header=True),
        "movies.csv",
        Layout(_MOVIE, has_header=True),
    ),
)


def import_movielens(src: str | Path, out: str | Path, progress: Progress | None = None) -> Manifest:
    """Writes a MovieLens data set as an event log.

    Args:
      src: the unpacked data set; which one is told by its files.
      out: where the event log goes.
      progress: told how much is done.

    Returns:
      what the log says of itself.

    Raises:
      EventLogError: if the files are none of the known data sets', or a line cannot be used; nothing is
        left at `out`.
      OSError: if something cannot be read or written.
    """
    src = Path(src)
    data_set = _detect(src)
    manifest = Manifest(source=data_set.source, schema=SCHEMA)
    with create_event_log(out, manifest) as writer:
        movies = read_all_lines(src / data_set.items_file, data_set.items)
        writer.write_items(_read_items(movies))
        users = None
        if data_set.users_file and data_set.users:
            users = read_all_lines(src / data_set.users_file, data_set.users)
            writer.write_users(_read_users(users))
        ratings = _read_ratings(src / data_set.ratings_file, data_set.ratings, movies, users, progress)
        rating_users, _ = write_ratings(writer, ratings, progress)
        if users is None:
            writer.write_users(pa.table({"user_id": rating_users}))
    return manifest


def _detect(src: Path) -> _DataSet:
    if not src.is_dir():
        raise EventLogError(f"{src}: no such directory. Expected an unpacked MovieLens data set.")
    found = sorted(path.name for path in src.iterdir())
    matches = [data_set for data_set in _DATA_SETS if set(data_set.files) <= set(found)]
    if len(matches) == 1:
        return matches[0]
    expected = "; ".join(f"{', '.join(data_set.files)} ({data_set.source})" for data_set in _DATA_SETS)
    shown = ", ".join(found[:10]) + (", ..." if len(found) > 10 else "")
    problem = "files of more than one data set" if matches else "no MovieLens data set"
    raise EventLogError(
        f"{src}: holds {problem}. Expected the files of one of: {expected}. Found: {shown or 'nothing'}. "
        "Give the directory that the download unpacks to."
    )


def _read_ratings(
    path: Path, layout: Layout, movies: Lines, users: Lines | None, progress: Progress | None
) -> Iterator[pa.Table]:
    size = path.stat().st_size
    for done, lines in read_lines(path, layout):
        user_ids, item_ids = lines.ids("userId"), lines.ids("movieId")
        _refuse_unknown(lines, "movieId", movies)
        if users:
            _refuse_unknown(lines, "userId", users)
        number = np.arange(lines.first_line, lines.first_line + lines.table.num_rows)
        columns = [
            pa.array(number),
            user_ids,
            item_ids,
            lines.times("timestamp"),
            lines.numbers("rating", 0.5, 5),
        ]
        yield pa.table(columns, schema=RATING_COLUMNS)
        if progress:
            progress("reading ratings", done, size)


def _refuse_unknown(lines: Lines, column: str, known: Lines) -> None:
    unknown = pc.invert(pc.is_in(lines.column(column), known.column(column)))
    lines.refuse(unknown, column, f"one that {known.path.name} lists")


def _refuse_repeated(lines: Lines, column: str) -> pa.ChunkedArray:
    ids = lines.ids(column)
    lines.refuse(pa.chunked_array([ids.to_pandas().duplicated()]), column, "an id that no line before it has")
    return ids


def _read_users(lines: Lines) -> pa.Table:
    columns = {name: lines.column(name) for name in ("gender", "age", "occupation")}
    return pa.table({"user_id": _refuse_repeated(lines, "userId"), **columns})


def _read_items(lines: Lines) -> pa.Table:
    ids = _refuse_repeated(lines, "movieId")
    genres = _split_genres(lines) if "genres" in lines.table.column_names else _genres_of_flags(lines)
    matched = pc.extract_regex(lines.column("title"), _TITLE).combine_chunks()
    year = pc.struct_field(matched, [1]).cast(pa.int32())
    title = pc.binary_join_element_wise(
        pc.struct_field(matched, [0]), pc.struct_field(matched, [2]), " ", null_handling="emit_null"
    )
    title = pc.coalesce(
        pc.utf8_trim_whitespace(title), pc.utf8_trim_whitespace(lines.column("title").combine_chunks())
    )
    return pa.table(
        {
            "item_id": ids,
            "title": title,
            "category": pc.fill_null(_first(genres), UNKNOWN_CATEGORY),
            "published_at": _new_year(year),
            "genres": genres,
            "release_year": year,
        }
    )


def _new_year(year: pa.Array) -> pa.Array:
    """1 January of a year; null before 1970, where an event log's time begins (`release_year` keeps it)."""
    years = pc.if_else(pc.greater_equal(year, 1970), year, None)
    # Arrow has no way from a year to a time but a string.
    dates = pc.binary_join_element_wise(years.cast(pa.string()), "01-01", "-")
    return pc.strptime(dates, format="%Y-%m-%d", unit="ms").cast(TIMESTAMP)


def _split_genres(lines: Lines) -> pa.Array:
    names = pc.split_pattern(lines.column("genres"), "|").combine_chunks()
    return _drop_no_genres(names.offsets.to_numpy(), names.flatten())


def _genres_of_flags(lines: Lines) -> pa.Array:
    for name in _GENRES:
        lines.refuse(pc.invert(pc.is_in(lines.column(name), pa.array(["0", "1"]))), name, "0 or 1")
    flags = np.stack([lines.column(name).to_numpy() == "1" for name in _GENRES], axis=1)
    offsets = np.append(0, np.cumsum(flags.sum(axis=1)))
    return _drop_no_genres(offsets, pa.array(_GENRES).take(pa.array(np.nonzero(flags)[1])))


def _drop_no_genres(offsets: np.ndarray, names: pa.Array) -> pa.Array:
    kept = ~np.isin(names.to_numpy(zero_copy_only=False).astype(str), _NO_GENRES)
    kept_before = np.append(0, np.cumsum(kept)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(kept_before[offsets]), names.filter(pa.array(kept)))


def _first(lists: pa.Array) -> pa.Array:
    """The first element of each list; null for an empty one (Arrow's own refuses those)."""
    offsets = lists.offsets.to_numpy()
    start = pa.array(offsets[:-1], mask=offsets[:-1] == offsets[1:])
    return lists.values.take(start)

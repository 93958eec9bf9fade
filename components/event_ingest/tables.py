"""Event-log rows to Arrow columns of examples, point in time: the vectorised heart of ingestion.

Everything here works on one shard: all rows of some users. No feature of a row uses anything that
became known at or after the row's timestamp; a click is known at `clicked_at`.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pa_dataset

from schemas import features as f

_TIME_BITS = 42  # milliseconds of 139 years; the rest of an int64 holds the user's number


def read_rows(path: str, key: str, keys: pa.Array) -> pa.Table:
    """The rows of a Parquet file whose `key` is among `keys`; streams the file, keeps those rows."""
    return pa_dataset.dataset(path, format="parquet").to_table(filter=pc.field(key).isin(keys))


def to_milliseconds(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Timestamps as int64 milliseconds since the epoch, the smallest int64 where null."""
    return column.cast(pa.timestamp("ms", tz="UTC")).cast(pa.int64()).fill_null(-(2**63)).to_numpy()


def join(rows: pa.Table, table: pa.Table, key: str) -> pa.Table:
    """Appends the columns of `table` (unique by `key`) that `rows` lacks, in the order of `rows`.

    A column that both have is the row's: what was true at the request, not in the profile of today.
    """
    index = pc.index_in(rows.column(key).combine_chunks(), table.column(key).combine_chunks())
    for name in table.column_names:
        if name not in rows.column_names:
            rows = rows.append_column(name, table.column(name).combine_chunks().take(index))
    return rows


def history_bounds(
    user_codes: np.ndarray, timestamps_ms: np.ndarray, click_user_codes: np.ndarray, clicked_at_ms: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The slice of the sorted clicks that each row may see.

    Args:
      user_codes: [N] each row's user, as small integers.
      timestamps_ms: [N] each row's time.
      click_user_codes: [C] each click's user, ascending.
      clicked_at_ms: [C] when each click became known, ascending within a user.

    Returns:
      begin, end: [N] the row sees clicks[begin:end], the last `HISTORY_SIZE` before its timestamp.
    """
    start = min(timestamps_ms.min(initial=0), clicked_at_ms.min(initial=0))

    def sort_key(codes: np.ndarray, times: np.ndarray) -> np.ndarray:
        return (codes.astype(np.int64) << _TIME_BITS) + (times - start)

    click_keys = sort_key(click_user_codes, clicked_at_ms)
    # side="left" keeps what is known strictly before the timestamp.
    end = np.searchsorted(click_keys, sort_key(user_codes, timestamps_ms), side="left")
    first = np.searchsorted(click_user_codes, user_codes, side="left")
    return np.maximum(first, end - f.HISTORY_SIZE), end


def gather_ranges(values: pa.Array, begin: np.ndarray, end: np.ndarray) -> pa.ListArray:
    """values[begin[n]:end[n]] for every n, as one list array of length N."""
    lengths = end - begin
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    index = np.repeat(begin - offsets[:-1], lengths) + np.arange(offsets[-1])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values.take(pa.array(index)))


def add_history(requests: pa.Table, clicks: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Appends the history columns.

    Args:
      requests: rows with user_id and timestamp.
      clicks: the same users' clicked rows, with item_id, clicked_at and `columns`.
      columns: what of each click to keep.

    Returns:
      `requests` with history_timestamp and a history_ column for each of `columns`, oldest click first.
    """
    users = pc.unique(requests.column(f.USER_ID).combine_chunks())
    click_codes = pc.index_in(clicks.column(f.USER_ID).combine_chunks(), users).to_numpy(zero_copy_only=False)
    known_at = to_milliseconds(clicks.column("clicked_at"))
    # item_id settles ties, so that equal logs give equal histories whatever order they are read in.
    items = clicks.column(f.ITEM_ID).combine_chunks()
    order = np.lexsort((pc.rank(items).to_numpy(), known_at, click_codes))
    row_codes = pc.index_in(requests.column(f.USER_ID).combine_chunks(), users)
    begin, end = history_bounds(
        row_codes.to_numpy(zero_copy_only=False),
        to_milliseconds(requests.column(f.TIMESTAMP)),
        click_codes[order],
        known_at[order],
    )
    history = {name: clicks.column(name).combine_chunks().take(pa.array(order)) for name in columns}
    history[f.TIMESTAMP] = pa.array(known_at[order])
    for name, values in history.items():
        requests = requests.append_column(f.HISTORY_PREFIX + name, gather_ranges(values, begin, end))
    return requests


def select_clicks(rows: pa.Table, items: pa.Table) -> pa.Table:
    """The clicked rows, with the columns of their items."""
    return join(rows.filter(pc.fill_null(rows.column(f.CLICKED), False)), items, f.ITEM_ID)


def build_impressions(
    rows: pa.Table,
    users: pa.Table,
    items: pa.Table,
    history_columns: Sequence[str],
    drawn: pa.Table | None = None,
) -> pa.Table:
    """One row per shown item, with profile, item and history columns.

    Args:
      rows: all rows of a shard's users, as in the event log.
      users: those users' profiles.
      items: the items the rows name.
      history_columns: what of each click the history keeps.
      drawn: rows besides, see `negatives.draw_negatives`.
    """
    shown = rows.filter(pc.is_valid(rows.column(f.POSITION)))
    shown = join(join(shown, users, f.USER_ID), items, f.ITEM_ID)
    if drawn is not None:
        # What a row and the catalogue both have of an item, a drawn row has from the catalogue.
        of_item = [x for x in drawn.column_names if x in items.column_names and x != f.ITEM_ID]
        drawn = join(join(drawn.drop(of_item), users, f.USER_ID), items, f.ITEM_ID)
        shown = pa.concat_tables([shown, drawn.select(shown.column_names).cast(shown.schema)])
    # What was not reported did not happen.
    converted = pc.fill_null(shown.column(f.CONVERTED), False)
    shown = shown.set_column(shown.schema.get_field_index(f.CONVERTED), f.CONVERTED, converted)
    return add_history(shown, select_clicks(rows, items), history_columns)


def build_pages(rows: pa.Table, users: pa.Table, items: pa.Table, history_columns: Sequence[str]) -> pa.Table:
    """One row per request, with its candidates as aligned lists: the shown by position, then the rest."""
    rows = rows.take(
        pc.sort_indices(
            rows,
            sort_keys=[(f.REQUEST_ID, "ascending"), (f.POSITION, "ascending"), (f.ITEM_ID, "ascending")],
        )
    )
    requests = rows.column(f.REQUEST_ID).combine_chunks()
    is_first = np.concatenate(
        [[True], pc.not_equal(requests[1:], requests[:-1]).to_numpy(zero_copy_only=False)]
    )
    offsets = pa.array(np.append(np.flatnonzero(is_first), rows.num_rows), pa.int32())
    lists = {
        f.ITEM_ID: rows.column(f.ITEM_ID),
        f.POSITION: pc.fill_null(rows.column(f.POSITION), -1),
        f.CLICKED: pc.fill_null(rows.column(f.CLICKED), False),
        f.CONVERTED: pc.fill_null(rows.column(f.CONVERTED), False),
        f.DWELL_SECONDS: pc.fill_null(rows.column(f.DWELL_SECONDS), 0.0),
    }
    per_row = {f.ITEM_ID, f.POSITION, f.CLICKED, "clicked_at", f.CONVERTED, "converted_at", f.DWELL_SECONDS}
    pages = rows.drop([name for name in rows.column_names if name in per_row])
    pages = pages.filter(pa.array(is_first))
    for name, values in lists.items():
        pages = pages.append_column(
            f.CANDIDATE_PREFIX + name, pa.ListArray.from_arrays(offsets, values.combine_chunks())
        )
    return add_history(join(pages, users, f.USER_ID), select_clicks(rows, items), history_columns)

"""What a user did, before each row's time, with the items that share the row's value of a column.

Unlike the history, which ends after `HISTORY_SIZE` clicks, these reach back over the whole log. An event
counts from when it became known: a click from `clicked_at`, an impression from its `timestamp`. Everything
is strictly before the row's own timestamp, so the rows of one request do not count each other.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.event_ingest.tables import to_milliseconds
from schemas import features as f


def add_interactions(shown: pa.Table, interactions: Sequence[f.Interaction]) -> pa.Table:
    """Appends a column for each interaction whose item column is there.

    A count is int64, and an age float64 seconds, missing where there was no click. All are missing where the
    row has no value of the column. Of a column of lists (a film's genres) the counts are summed over the
    row's values, and the age is the smallest. A row without a position, which was drawn and not shown, is in
    no count.

    Args:
      shown: all shown rows of some users and what was drawn beside them, with their items' columns.
      interactions: what to compute.
    """
    for column in dict.fromkeys(x.column for x in interactions if x.column in shown.column_names):
        statistics = _compute_statistics(shown, column)
        for interaction in (x for x in interactions if x.column == column):
            shown = shown.append_column(interaction.name, statistics[interaction.statistic])
    return shown


@dataclasses.dataclass(frozen=True)
class _Values:
    """The values of one column, one entry per row and value: E entries of N rows.

    Attributes:
      rows: [E] the row of each entry.
      groups: [E] a number for each (user, value).
    """

    rows: np.ndarray
    groups: np.ndarray


def _compute_statistics(shown: pa.Table, column: str) -> dict[f.Statistic, pa.Array]:
    """Each statistic of each row [N]."""
    values = _list_values(shown, column)
    asked_at = to_milliseconds(shown.column(f.TIMESTAMP))[values.rows]
    is_click = pc.fill_null(shown.column(f.CLICKED), False).to_numpy()[values.rows]
    clicked_at = to_milliseconds(shown.column("clicked_at"))[values.rows][is_click]

    was_shown = pc.is_valid(shown.column(f.POSITION)).to_numpy()[values.rows]
    impressions, _ = _count_before(values.groups[was_shown], asked_at[was_shown], values.groups, asked_at)
    clicks, newest = _count_before(values.groups[is_click], clicked_at, values.groups, asked_at)

    def sum_by_row(counts: np.ndarray, has_none: np.ndarray) -> pa.Array:
        sums = np.bincount(values.rows, counts, minlength=shown.num_rows).astype(np.int64)
        return pa.array(sums, mask=has_none)

    ages = np.full(shown.num_rows, np.inf)
    found = clicks > 0
    np.minimum.at(ages, values.rows[found], (asked_at - newest)[found] / 1000.0)
    has_no_value = np.bincount(values.rows, minlength=shown.num_rows) == 0
    return {
        f.Statistic.CLICKS: sum_by_row(clicks, has_no_value),
        f.Statistic.IMPRESSIONS: sum_by_row(impressions, has_no_value),
        f.Statistic.CLICK_AGE_SECONDS: pa.array(ages, mask=np.isinf(ages)),
    }


def _list_values(shown: pa.Table, column: str) -> _Values:
    """A column's values; a row without one has no entry."""
    array = shown.column(column).combine_chunks()
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        rows = pc.list_parent_indices(array).to_numpy()
        array = pc.list_flatten(array)
    else:
        rows = np.arange(len(array))
    is_valid = array.is_valid().to_numpy(zero_copy_only=False)
    rows, codes = rows[is_valid], _number(array.filter(pa.array(is_valid)))
    users = _number(shown.column(f.USER_ID).combine_chunks())[rows]
    return _Values(rows, users * (codes.max(initial=0) + 1) + codes)


def _number(array: pa.Array) -> np.ndarray:
    """Small numbers for the values of an array without nulls."""
    return array.dictionary_encode().indices.to_numpy().astype(np.int64)


def _count_before(
    event_groups: np.ndarray, event_times: np.ndarray, groups: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Counts the events of the same group strictly before a time.

    Args:
      event_groups: [C] each event's group.
      event_times: [C] when each became known.
      groups: [E] the groups asked for.
      times: [E] and before when.

    Returns:
      counts: [E].
      newest: [E] the last of those events' times; of any event, or 0, where the count is 0.
    """
    # Group and time in one sortable number: ranks keep it small, however long the log is.
    known = np.unique(event_times)
    keys = np.sort(event_groups * len(known) + np.searchsorted(known, event_times))
    first = np.searchsorted(keys, groups * len(known))
    end = np.searchsorted(keys, groups * len(known) + np.searchsorted(known, times))
    newest = known[keys[end - 1] % len(known)] if len(keys) else np.zeros(len(times), np.int64)
    return end - first, newest

"""Negatives for a log that says what was chosen and nothing of what was passed over (ratings, reviews).

A model of clicks needs rows without one. Where the log shows none, items are drawn for each click, as though
they had been passed over: in proportion to the clicks on them in the same split, so that an item's
popularity, or its age, tells a drawn row from a click in no split; and never one that the user clicked, at
any time (He et al. 2017, arXiv 1708.05031, draw likewise). What a model learns and is measured by then is
which of such items the user chooses, and not whether a shown one is clicked.
"""

from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pa_dataset
from tensorflow_metadata.proto.v0 import schema_pb2

from schemas import features as f
from sources.event_log import EventLog

_ROUNDS = 20  # of drawing again what may not be; a click of a user who clicked almost everything keeps less


def lacks_negatives(log: EventLog) -> bool:
    """Whether no shown row of a log went without a click; reads up to the first that did."""
    paths = [str(path) for files in log.partitions().values() for path in files]
    shown = pc.is_valid(pc.field(f.POSITION))
    clicked = pc.coalesce(pc.field(f.CLICKED), False)
    passed_over = pa_dataset.dataset(paths, format="parquet").scanner(
        columns=[f.POSITION], filter=shown & ~clicked
    )
    return not any(batch.num_rows for batch in passed_over.to_batches())


def check_columns(columns: Collection[str], item_columns: Collection[str], schema: schema_pb2.Schema) -> None:
    """Refuses a feature of an item that the catalogue lacks: a drawn row would not have it, a click would.

    Args:
      columns: of the log's impressions.
      item_columns: of its catalogue.
      schema: of impression examples.

    Raises:
      ValueError: naming the features.
    """
    of_item = {x.name for x in f.read_features(schema, f.Role.CANDIDATE, f.Role.PRIVILEGED)}
    missing = sorted(of_item & set(columns) - set(item_columns))
    if missing:
        raise ValueError(
            "every shown row was clicked, so others are drawn, which have no "
            f"{', '.join(missing)}: it stands in the impressions alone, and would tell a click. Give the "
            "column to items.parquet, take the feature out of the schema, or set negatives.per_click to 0 "
            "and end the run before pre-ranking"
        )


def draw_negatives(
    rows: pa.Table, split_index: np.ndarray, per_click: int, request_columns: Collection[str], seed: int
) -> pa.Table:
    """Draws items for each click.

    Args:
      rows: [N] all rows of some users, of which each shown one was clicked, as in the event log.
      split_index: [N] each row's split; items are drawn from the clicks of the same one.
      per_click: how many for each click; fewer where the user clicked almost all there is, or where one
        request has several clicks, which share what is drawn twice.
      request_columns: columns of `rows` that are a request's, and so a drawn row's too; of the others, which
        are the clicked item's, a drawn row has none.
      seed: of the draws.

    Returns:
      the drawn rows with the columns of `rows`, each in the request of its click, not clicked, and without a
      position, as it was not shown; `tables.build_impressions` takes an empty conversion for none.
    """
    is_click = pc.fill_null(rows.column(f.CLICKED), False).to_numpy()
    clicks = rows.filter(pa.array(is_click))
    splits = split_index[is_click]
    # Sorted, so that equal logs give equal draws whatever order they are read in.
    order = pc.sort_indices(clicks, sort_keys=[(f.REQUEST_ID, "ascending"), (f.ITEM_ID, "ascending")])
    clicks, splits = clicks.take(order), splits[order.to_numpy()]
    items = clicks.column(f.ITEM_ID).combine_chunks().dictionary_encode()
    item_codes = items.indices.to_numpy().astype(np.int64)
    user_codes = clicks.column(f.USER_ID).combine_chunks().dictionary_encode().indices.to_numpy()
    drawn = _draw(user_codes.astype(np.int64), item_codes, splits, per_click, seed)
    click, place = np.nonzero(drawn >= 0)
    # A request of several clicks holds an item once.
    requests = clicks.column(f.REQUEST_ID).combine_chunks().dictionary_encode().indices.to_numpy()
    pairs = requests[click].astype(np.int64) * len(items.dictionary) + drawn[click, place]
    first = np.sort(np.unique(pairs, return_index=True)[1])
    click, place = click[first], place[first]
    negatives = clicks.take(pa.array(click))
    columns = {
        x.name: negatives.column(x.name) if x.name in request_columns else pa.nulls(len(click), x.type)
        for x in rows.schema
    }
    columns[f.ITEM_ID] = items.dictionary.take(pa.array(drawn[click, place]))
    columns[f.CLICKED] = pa.array(np.zeros(len(click), np.bool_))
    return pa.table(columns, schema=rows.schema)


def _draw(users: np.ndarray, items: np.ndarray, splits: np.ndarray, per_click: int, seed: int) -> np.ndarray:
    """Item codes [C, per_click] for C clicks, distinct for each; -1 where none was found."""
    rng = np.random.default_rng(seed)
    num_items = items.max(initial=0) + 1
    clicked = np.unique(users * num_items + items)
    drawn = np.full((len(items), per_click), -1)
    for split in np.unique(splits):
        of_split = np.flatnonzero(splits == split)
        pool, split_users = items[of_split], users[of_split]
        found = np.full((len(of_split), per_click), -1)
        for _ in range(_ROUNDS):
            row, place = np.nonzero(found < 0)
            if not len(row):
                break
            found[row, place] = pool[rng.integers(0, len(pool), len(row))]
            found[_is_clicked(split_users, found, num_items, clicked) | _is_repeated(found)] = -1
        drawn[of_split] = found
    return drawn


def _is_clicked(users: np.ndarray, items: np.ndarray, num_items: int, clicked: np.ndarray) -> np.ndarray:
    """Which items [C, k] are among what their row's user clicked."""
    return np.isin(users[:, np.newaxis] * num_items + items, clicked) & (items >= 0)


def _is_repeated(items: np.ndarray) -> np.ndarray:
    """Which items [C, k] stand in their row already, further left."""
    same = items[:, :, np.newaxis] == items[:, np.newaxis, :]
    return np.tril(same, -1).any(axis=2)

"""The sizes that every model is given, and the ids that every model is trained on."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

_SEED = 0
# Each has a column of categories beside it.
_ITEM_COLUMNS = ("item", "history_item", "negative_item")


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Of a model as in the paper (Zhou et al. 2019, DIEN, arXiv 1809.03672) and its code, and of its data.

    Attributes:
      rows: of a batch.
      steps: batches of a round, no two of which are alike.
      history: events before each row.
      users, items, categories: ids, of which 0 is nobody's.
      embedding_dim: of each column, so that an event is twice as long.
      units: of both recurrences.
      head_dims: of the MLP on top.
      attention_dims: of the attention's MLP.
    """

    rows: int = 1024
    steps: int = 4
    history: int = 50
    users: int = 10_000
    items: int = 60_000
    categories: int = 800
    embedding_dim: int = 18
    units: int = 36
    head_dims: tuple[int, ...] = (200, 80)
    attention_dims: tuple[int, ...] = (80, 40)


def make_item_categories(sizes: Sizes) -> np.ndarray:
    """The category of each item [items]; item 0 has category 0."""
    item_categories = np.random.default_rng(_SEED).integers(1, sizes.categories, sizes.items)
    item_categories[0] = 0
    return item_categories


def make_columns(sizes: Sizes) -> dict[str, np.ndarray]:
    """What all models are trained on: ids from 1, drawn uniformly.

    Returns:
      `user`, `item`, `category` and `clicked` [steps, rows]; `history_item`, `history_category` and, one for
      each event, `negative_item`, `negative_category` [steps, rows, history]. All histories are full, none is
      another row's.
    """
    random = np.random.default_rng(_SEED + 1)
    rows, events = (sizes.steps, sizes.rows), (sizes.steps, sizes.rows, sizes.history)
    item_categories = make_item_categories(sizes)
    columns: dict[str, np.ndarray] = {
        "user": random.integers(1, sizes.users, rows),
        "item": random.integers(1, sizes.items, rows),
        "history_item": random.integers(1, sizes.items, events),
        "negative_item": random.integers(1, sizes.items, events),
        "clicked": random.integers(0, 2, rows).astype(np.float32),
    }
    for name in _ITEM_COLUMNS:
        columns[name.replace("item", "category")] = item_categories[columns[name]]
    return columns


def save(sizes: Sizes, columns: Mapping[str, np.ndarray], path: Path) -> None:
    """Writes what `peers.load` reads: sizes, columns, and `item_categories`."""
    np.savez(
        path,
        sizes=np.array(json.dumps(dataclasses.asdict(sizes))),
        item_categories=make_item_categories(sizes),
        **columns,
    )

"""Answers from a pushed version, in this process: for `winnow recommend`, `prerank`, `rank`, `similar`."""

import dataclasses
import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pa_dataset
import tensorflow as tf
from scann.scann_ops.py import scann_ops  # noqa: F401  (registers the op of the scann flavour)

from components.event_ingest import tables
from components.event_ingest.examples import encode_examples
from components.flavours import find_live_version, live_folders
from components.funnel_builder.catalogue import CANDIDATES
from components.funnel_builder.prerank_package import PRERANK_EXAMPLES_SIGNATURE
from components.funnel_builder.rank_package import RANK_EXAMPLES_SIGNATURE
from components.index_builder.package import EXCLUDE, RECOMMEND_EXAMPLES_SIGNATURE, SCORES, SIMILAR_SIGNATURE
from schemas import features as f
from sources.event_log import IMPRESSIONS_DIR, EventLog
from trainers.raw_features import EXAMPLES


class NothingPushedError(LookupError):
    """There is no live version, or not one that has what is asked for."""


@dataclasses.dataclass(frozen=True)
class ScoredItem:
    """An item of an answer, best first."""

    item_id: str
    score: float


@dataclasses.dataclass(frozen=True)
class RankedItem:
    """A candidate and the student's probabilities of each task, most likely clicked first."""

    item_id: str
    probabilities: dict[str, float]


@dataclasses.dataclass(frozen=True)
class UserState:
    """What the event log knows of a user at its end.

    Attributes:
      is_known: whether the users table has the user.
      example: the serialized tf.Example of a request right after the log's last day.
      clicked: ids of all items the user clicked, oldest first.
    """

    is_known: bool
    example: bytes
    clicked: list[str]


def read_user_state(log: EventLog, user_id: str) -> UserState:
    """Makes the request of a user with ingestion's own code, so that nothing can differ from training."""
    schema = f.load_schema(log.manifest.schema, f.ExampleType.IMPRESSION)
    users = tables.read_rows(str(log.users_path), f.USER_ID, pa.array([user_id]))
    impressions = pa_dataset.dataset(log.path / IMPRESSIONS_DIR, format="parquet")
    is_click = (pc.field(f.USER_ID) == user_id) & pc.field(f.CLICKED)
    rows = impressions.to_table(columns=[f.USER_ID, f.ITEM_ID, f.CLICKED, "clicked_at"], filter=is_click)
    items = tables.read_rows(str(log.items_path), f.ITEM_ID, pc.unique(rows.column(f.ITEM_ID)))
    last_day = max(log.partitions())
    now = dt.datetime.combine(last_day + dt.timedelta(days=1), dt.time(), dt.timezone.utc)
    request = pa.table({f.USER_ID: [user_id], f.TIMESTAMP: pa.array([now], pa.timestamp("ms", tz="UTC"))})
    request = tables.add_history(
        tables.join(request, users, f.USER_ID), tables.select_clicks(rows, items), f.history_columns(schema)
    )
    clicked = rows.sort_by("clicked_at").column(f.ITEM_ID).to_pylist()
    return UserState(bool(users.num_rows), encode_examples(request, schema)[0], clicked)


class PushedVersion:
    """The live version of a push destination, loaded.

    Args:
      serving_dir: the push destination.
      flavour: one of `components.flavours.FLAVOURS`.

    Raises:
      NothingPushedError: if no version is live.
    """

    def __init__(self, serving_dir: Path, flavour: str):
        self.version = find_live_version(serving_dir)
        if not self.version:
            raise NothingPushedError(
                f"{serving_dir}: nothing was pushed yet; `winnow run` pushes what passes its gates"
            )
        self._model = tf.saved_model.load(str(live_folders(serving_dir, self.version)[flavour]))

    def recommend(self, example: bytes, exclude: Sequence[str], k: int) -> list[ScoredItem]:
        """The k best items for a request."""
        answer = self._model.signatures[RECOMMEND_EXAMPLES_SIGNATURE](
            **{EXAMPLES: tf.constant([example]), EXCLUDE: _row(exclude)}
        )
        return _read_answer(answer, k)

    def prerank(self, example: bytes, candidates: Sequence[str], k: int) -> list[RankedItem]:
        """The k candidates most likely to be clicked, by pre-ranking; what the catalogue lacks is left out.

        Raises:
          NothingPushedError: if the version is of before there was pre-ranking.
        """
        return self._order(PRERANK_EXAMPLES_SIGNATURE, example, candidates, k)

    def rank(self, example: bytes, candidates: Sequence[str], k: int) -> list[RankedItem]:
        """The same by ranking.

        Raises:
          NothingPushedError: if the version is of before there was ranking.
        """
        return self._order(RANK_EXAMPLES_SIGNATURE, example, candidates, k)

    def _order(self, signature: str, example: bytes, candidates: Sequence[str], k: int) -> list[RankedItem]:
        if signature not in self._model.signatures:
            raise NothingPushedError(
                f"version {self.version} has no signature {signature}; `winnow run` pushes one that has"
            )
        answer = self._model.signatures[signature](
            **{EXAMPLES: tf.constant([example]), CANDIDATES: _row(candidates)}
        )
        columns = {name: values[0].numpy()[:k].tolist() for name, values in answer.items()}
        item_ids = columns.pop(f.ITEM_ID)
        return [
            RankedItem(item.decode(), {task: values[place] for task, values in columns.items()})
            for place, item in enumerate(item_ids)
            if item
        ]

    def similar(self, item_id: str, k: int) -> list[ScoredItem]:
        """The k items most likely to be clicked after an item; none for one that the catalogue lacks."""
        answer = self._model.signatures[SIMILAR_SIGNATURE](
            **{f.ITEM_ID: tf.constant([item_id]), EXCLUDE: _row([])}
        )
        return _read_answer(answer, k)


def _row(ids: Sequence[str]) -> tf.Tensor:
    return tf.reshape(tf.constant(list(ids), tf.string), [1, len(ids)])


def _read_answer(answer: dict[str, tf.Tensor], k: int) -> list[ScoredItem]:
    pairs = zip(answer[f.ITEM_ID][0].numpy()[:k], answer[SCORES][0].numpy()[:k], strict=True)
    return [ScoredItem(item.decode(), float(score)) for item, score in pairs if item]

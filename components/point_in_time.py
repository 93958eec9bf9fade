"""Whether examples are point in time: no row knows what became known at or after its own timestamp."""

import dataclasses
import datetime as dt
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from schemas import features as f

_SPLITS = ("train", "eval", "test")  # in the order of time
_COLUMNS = {
    f.TIMESTAMP: tf.io.FixedLenFeature([], tf.int64),
    f.HISTORY_TIMESTAMP: tf.io.RaggedFeature(tf.int64),
}
_BATCH = 8192


def find_leaks(
    examples_uri: str, splits: Sequence[str], interactions: Sequence[f.Interaction]
) -> Iterator[str]:
    """One line per split whose rows know the future, and per split that begins before another ends.

    An event of a history says when it became known. Of interactions (`schemas.features.Interaction`) the age
    of the newest click does; and since who clicked was shown the item before, more clicks than impressions
    cannot be.

    Args:
      examples_uri: raw impression or page examples; streamed, of which a few columns are read.
      splits: the splits that are there.
      interactions: those that the examples have, see `schemas.features.read_interactions`; a log's own column
        may have such a name too.
    """
    spans = {}
    rules = _make_rules(interactions)
    columns = dict(itertools.chain(_COLUMNS.items(), *(rule.columns.items() for rule in rules)))
    parse = functools.partial(tf.io.parse_example, features=columns)
    for split in (name for name in _SPLITS if name in splits):
        files = sorted(tf.io.gfile.glob(f"{examples_uri}/Split-{split}/*"))
        records = tf.data.TFRecordDataset(files, compression_type="GZIP")
        num_broken = dict.fromkeys((rule.text for rule in rules), 0)
        num_rows = num_leaks = 0
        latest, spans[split] = 0, (np.iinfo(np.int64).max, np.iinfo(np.int64).min)
        for row in records.batch(_BATCH).map(parse, tf.data.AUTOTUNE):
            at, known_at = row[f.TIMESTAMP].numpy(), row[f.HISTORY_TIMESTAMP]
            owners, late = known_at.value_rowids().numpy(), known_at.flat_values.numpy()
            late = late - at[owners]
            num_rows += len(at)
            num_leaks += len(np.unique(owners[late >= 0]))
            latest = max(latest, late.max(initial=0))
            first, last = spans[split]
            spans[split] = min(first, at.min()), max(last, at.max())
            for rule in rules:
                num_broken[rule.text] += np.count_nonzero(rule.is_broken(row))
        if num_leaks:
            yield (
                f"split {split}: {num_leaks:,} of {num_rows:,} rows have an event in their history that "
                f"became known up to {latest / 1000:,.3f} s after the row's own timestamp, or at it"
            )
        for text, count in num_broken.items():
            if count:
                yield f"split {split}: {count:,} of {num_rows:,} rows have {text}"
    for (earlier, (_, last)), (later, (first, _)) in itertools.combinations(spans.items(), 2):
        if last >= first:
            yield f"split {earlier} ends {_format(last)}, after split {later} begins, {_format(first)}"


@dataclasses.dataclass(frozen=True)
class _Rule:
    """What holds of interactions that are point in time.

    Attributes:
      columns: what it reads.
      is_broken: from a batch's columns to whether each row breaks it, [B].
      text: what such a row has.
    """

    columns: dict[str, tf.io.RaggedFeature]
    is_broken: Callable[[dict[str, tf.RaggedTensor]], tf.Tensor]
    text: str


def _make_rules(interactions: Sequence[f.Interaction]) -> list[_Rule]:
    ages = [_make_age_rule(x.name) for x in interactions if x.statistic is f.Statistic.CLICK_AGE_SECONDS]
    counts = [
        _make_count_rule(x.name, shown.name)
        for x in interactions
        if x.statistic is f.Statistic.CLICKS
        and (shown := f.Interaction(x.column, f.Statistic.IMPRESSIONS)) in interactions
    ]
    return [*ages, *counts]


def _make_age_rule(age: str) -> _Rule:
    text = f"{age} of 0 or less: a click that became known at the row's own timestamp, or after it"
    columns = {age: tf.io.RaggedFeature(tf.float32)}
    return _Rule(columns, lambda row: tf.reduce_any(row[age] <= 0, axis=1), text)


def _make_count_rule(clicks: str, impressions: str) -> _Rule:
    text = f"more {clicks} than {impressions}: a click counts before it became known"
    columns = dict.fromkeys((clicks, impressions), tf.io.RaggedFeature(tf.int64))

    def is_broken(row: dict[str, tf.RaggedTensor]) -> tf.Tensor:
        return tf.reduce_sum(row[clicks], axis=1) > tf.reduce_sum(row[impressions], axis=1)  # missing is 0

    return _Rule(columns, is_broken, text)


def _format(milliseconds: int) -> str:
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.timezone.utc).isoformat(" ", "milliseconds")

"""Whether examples are point in time: no row knows what became known at or after its own timestamp."""

import datetime as dt
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from schemas import features as f

_SPLITS = ("train", "eval", "test")  # in the order of time
_COLUMNS = {
    f.TIMESTAMP: tf.io.FixedLenFeature([], tf.int64),
    f.HISTORY_TIMESTAMP: tf.io.RaggedFeature(tf.int64),
}
_BATCH = 8192


def find_leaks(examples_uri: str, splits: Sequence[str]) -> Iterator[str]:
    """One line per split whose rows know the future, and per split that begins before another ends.

    Args:
      examples_uri: raw impression or page examples; streamed, two columns are read.
      splits: the splits that are there.
    """
    spans = {}
    for split in (name for name in _SPLITS if name in splits):
        files = sorted(tf.io.gfile.glob(f"{examples_uri}/Split-{split}/*"))
        records = tf.data.TFRecordDataset(files, compression_type="GZIP").batch(_BATCH)
        num_rows = num_leaks = 0
        latest, spans[split] = 0, (np.iinfo(np.int64).max, np.iinfo(np.int64).min)
        for row in records.map(lambda x: tf.io.parse_example(x, _COLUMNS), tf.data.AUTOTUNE):
            at, known_at = row[f.TIMESTAMP].numpy(), row[f.HISTORY_TIMESTAMP]
            owners, late = known_at.value_rowids().numpy(), known_at.flat_values.numpy()
            late = late - at[owners]
            num_rows += len(at)
            num_leaks += len(np.unique(owners[late >= 0]))
            latest = max(latest, late.max(initial=0))
            first, last = spans[split]
            spans[split] = min(first, at.min()), max(last, at.max())
        if num_leaks:
            yield (
                f"split {split}: {num_leaks:,} of {num_rows:,} rows have an event in their history that "
                f"became known up to {latest / 1000:,.3f} s after the row's own timestamp, or at it"
            )
    for (earlier, (_, last)), (later, (first, _)) in itertools.combinations(spans.items(), 2):
        if last >= first:
            yield f"split {earlier} ends {_format(last)}, after split {later} begins, {_format(first)}"


def _format(milliseconds: int) -> str:
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.timezone.utc).isoformat(" ", "milliseconds")

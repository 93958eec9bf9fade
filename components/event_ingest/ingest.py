"""Ingestion as a Beam pipeline over shards of users; every step works on whole Arrow tables."""

import dataclasses
import datetime as dt
import os
from collections.abc import Iterable, Iterator, Mapping

import apache_beam as beam
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2

from components.event_ingest import splits, tables
from components.event_ingest.examples import encode_examples
from components.event_ingest.interactions import add_interactions
from components.event_ingest.negatives import check_columns, draw_negatives, lacks_negatives
from schemas import features as f
from sources.event_log import EventLog
from sources.validation import validate_event_log

ROWS_PER_SHARD = 500_000  # bounds a worker's memory: about 1 GB with 50 clicks of history
ROWS_PER_READ = 50_000  # small files are read together: a step of Beam takes longer than one of them
CATALOGUE = "catalogue"  # the item examples' one split
_NAMESPACE = "event_ingest"


@dataclasses.dataclass(frozen=True)
class SplitFractions:
    """Shares of the rows, by time, for evaluation and test."""

    eval: float
    test: float


@dataclasses.dataclass(frozen=True)
class Ingested:
    """What was written.

    Attributes:
      num_rows: rows, by example type and split.
      days: the first and the last day of the log in each split; the catalogue has none.
      drawn_per_click: negatives that were drawn for each click; 0 where the log has its own.
    """

    num_rows: dict[tuple[str, str], int]
    days: dict[str, tuple[dt.date, dt.date]]
    drawn_per_click: int


def ingest_events(
    events_dir: str,
    uris: dict[str, str],
    fractions: SplitFractions,
    pipeline: beam.Pipeline,
    negatives_per_click: int = 0,
) -> Ingested:
    """Validates an event log and writes its three kinds of example.

    Args:
      events_dir: the event log.
      uris: where the examples of each `ExampleType` go, in TFX's layout (Split-<name>/*.gz).
      fractions: how much of the log, by time, is for evaluation and test.
      pipeline: the Beam pipeline to build on; it is run here.
      negatives_per_click: drawn for each click where every shown row of the log was clicked.

    Raises:
      EventLogError: if the log breaks its contract.
      ValueError: if it covers too few days, or negatives cannot be drawn for it.
    """
    log = EventLog(events_dir)
    validate_event_log(log)
    days = log.partitions()
    rows_per_file = {str(p): pq.read_metadata(p).num_rows for paths in days.values() for p in paths}
    rows_per_day = {day: sum(rows_per_file[str(p)] for p in paths) for day, paths in days.items()}
    eval_day, test_day = splits.compute_split_days(rows_per_day, fractions.eval, fractions.test)
    drawn_per_click = negatives_per_click if negatives_per_click and lacks_negatives(log) else 0
    num_shards = 1 + (1 + drawn_per_click) * sum(rows_per_day.values()) // ROWS_PER_SHARD
    schema = log.manifest.schema
    if drawn_per_click:
        columns, item_columns = (pq.read_schema(x).names for x in (next(iter(rows_per_file)), log.items_path))
        check_columns(columns, item_columns, f.load_schema(schema, f.ExampleType.IMPRESSION))
    shard_writer = _WriteShard(log, schema, uris, (eval_day, test_day), num_shards, drawn_per_click)

    with pipeline as p:
        _ = (
            p
            | "Files" >> beam.Create(group_files(rows_per_file))
            | "SpreadFiles" >> beam.Reshuffle()
            | "ReadByUserShard" >> beam.FlatMap(_read_by_user_shard, num_shards)
            | "GroupShards" >> beam.GroupByKey()
            | "WriteExamples" >> beam.ParDo(shard_writer)
        )
        _ = (
            p
            | "Catalogue" >> beam.Create([str(log.items_path)])
            | "WriteItems" >> beam.ParDo(_WriteItems(schema, uris[f.ExampleType.ITEM.value]))
        )
    counters = pipeline.result.metrics().query(beam.metrics.MetricsFilter().with_namespace(_NAMESPACE))
    counts = {tuple(c.key.metric.name.split("/")): c.committed for c in counters["counters"]}
    for split in splits.SPLITS:
        for kind in (f.ExampleType.IMPRESSION.value, f.ExampleType.PAGE.value):
            counts.setdefault((kind, split), 0)
    return Ingested(counts, splits.compute_day_ranges(days, eval_day, test_day), drawn_per_click)


def group_files(rows_per_file: Mapping[str, int]) -> list[list[str]]:
    """Neighbouring files, in groups of less than `ROWS_PER_READ` rows and one file."""
    groups: dict[int, list[str]] = {}
    rows_before = 0
    for path, num_rows in rows_per_file.items():
        groups.setdefault(rows_before // ROWS_PER_READ, []).append(path)
        rows_before += num_rows
    return list(groups.values())


def shuffle_requests(table: pa.Table, seed: int) -> pa.Table:
    """Permutes the requests, and keeps the rows of each side by side.

    The log is in the order of time; a trainer's shuffle buffer wants it spread. The rows of one request stay
    neighbours: a trainer that compares them groups neighbours.
    """
    requests = table.column(f.REQUEST_ID).combine_chunks().dictionary_encode()
    places = np.random.default_rng(seed).permutation(len(requests.dictionary))
    order = np.argsort(places[requests.indices.to_numpy()], kind="stable")
    return table.take(pa.array(order))


def _read_by_user_shard(paths: list[str], num_shards: int) -> Iterator[tuple[int, pa.Table]]:
    """Reads some files and cuts them by a stable hash of the user."""
    table = pa.concat_tables([_read_table(path) for path in paths], promote=True)
    users = table.column(f.USER_ID).combine_chunks().dictionary_encode()
    hashes = pd.util.hash_array(users.dictionary.to_numpy(zero_copy_only=False).astype(object))
    shards = (hashes % num_shards).astype(np.int64)[users.indices.to_numpy()]
    for shard in np.unique(shards):
        # One chunk for many files: what follows goes through every chunk.
        yield int(shard), table.filter(pa.array(shards == shard)).combine_chunks()


def _read_table(path: str) -> pa.Table:
    """A file as it is; `pq.read_table` would ask for its data set first, which takes longer than the file."""
    with pq.ParquetFile(path) as file:
        return file.read()


def _write_records(uri: str, split: str, shard: int, num_shards: int, records: list[bytes]) -> None:
    """Writes one file of a split; a retried bundle writes the same name again, whole."""
    folder = os.path.join(uri, f"Split-{split}")
    tf.io.gfile.makedirs(folder)
    path = os.path.join(folder, f"data_tfrecord-{shard:05d}-of-{num_shards:05d}.gz")
    staging = os.path.join(uri, f"staging-{split}-{shard:05d}")
    options = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=1)
    with tf.io.TFRecordWriter(staging, options) as writer:
        for record in records:
            writer.write(record)
    tf.io.gfile.rename(staging, path, overwrite=True)


class _WriteShard(beam.DoFn):
    """Turns all rows of a shard's users into impressions and pages."""

    def __init__(
        self,
        log: EventLog,
        schema: str,
        uris: dict[str, str],
        cuts: tuple[dt.date, dt.date],
        num_shards: int,
        drawn_per_click: int,
    ):
        self._log = log
        self._schema = schema
        self._uris = uris
        self._cuts = cuts
        self._num_shards = num_shards
        self._drawn_per_click = drawn_per_click

    def process(self, element: tuple[int, Iterable[pa.Table]]) -> None:
        shard, parts = element
        rows = pa.concat_tables(parts, promote=True)
        users = tables.read_rows(str(self._log.users_path), f.USER_ID, pc.unique(rows.column(f.USER_ID)))
        items = tables.read_rows(str(self._log.items_path), f.ITEM_ID, pc.unique(rows.column(f.ITEM_ID)))
        impressions, pages = (
            f.load_schema(self._schema, kind) for kind in (f.ExampleType.IMPRESSION, f.ExampleType.PAGE)
        )
        drawn = self._draw(rows, impressions, shard) if self._drawn_per_click else None
        shown = tables.build_impressions(rows, users, items, f.history_columns(impressions), drawn)
        self._write(f.ExampleType.IMPRESSION, impressions, shown, shard)
        self._write(
            f.ExampleType.PAGE, pages, tables.build_pages(rows, users, items, f.history_columns(pages)), shard
        )

    def _draw(self, rows: pa.Table, schema: schema_pb2.Schema, shard: int) -> pa.Table:
        of_request = {x.name for x in f.read_features(schema, f.Role.QUERY)}
        return draw_negatives(
            rows,
            self._split(rows),
            self._drawn_per_click,
            {f.REQUEST_ID, f.USER_ID, f.TIMESTAMP, *of_request},
            seed=shard,
        )

    def _split(self, table: pa.Table) -> np.ndarray:
        return splits.split_of(tables.to_milliseconds(table.column(f.TIMESTAMP)), *self._cuts)

    def _write(self, kind: f.ExampleType, schema: schema_pb2.Schema, table: pa.Table, shard: int) -> None:
        table = shuffle_requests(add_interactions(table, f.read_interactions(schema)), shard)
        split_index = self._split(table)
        for number, split in enumerate(splits.SPLITS):
            records = encode_examples(table.filter(pa.array(split_index == number)), schema)
            _write_records(self._uris[kind.value], split, shard, self._num_shards, records)
            beam.metrics.Metrics.counter(_NAMESPACE, f"{kind.value}/{split}").inc(len(records))


class _WriteItems(beam.DoFn):
    """Writes the whole catalogue, a row group at a time."""

    def __init__(self, schema: str, uri: str):
        self._schema = schema
        self._uri = uri

    def process(self, path: str) -> None:
        schema = f.load_schema(self._schema, f.ExampleType.ITEM.value)
        file = pq.ParquetFile(path)
        for group in range(file.num_row_groups):
            records = encode_examples(file.read_row_group(group), schema)
            _write_records(self._uri, CATALOGUE, group, file.num_row_groups, records)
            beam.metrics.Metrics.counter(_NAMESPACE, f"{f.ExampleType.ITEM.value}/{CATALOGUE}").inc(
                len(records)
            )

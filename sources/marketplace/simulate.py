"""Writes a simulated marketplace as an event log, with its oracle beside it. The events are synthetic."""

import dataclasses
import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sources.event_log import ORACLE_DIR, TIMESTAMP, EventLogError, EventLogWriter, Manifest, create_event_log
from sources.marketplace.catalogue import make_ids, make_items_table
from sources.marketplace.config import MarketplaceConfig
from sources.marketplace.policy import Policy
from sources.marketplace.population import DEVICES, NUM_CITIES, make_users_table
from sources.marketplace.requests import REQUESTS_PER_BLOCK, Block, Requests, draw_requests, simulate_block
from sources.marketplace.summary import Summary, SummaryBuilder
from sources.marketplace.world import build_world

PARAMS_FILE = "params.json"
MANIFEST = Manifest(source="marketplace", schema="marketplace", synthetic=True)

Progress = Callable[[dt.date, int], None]


def simulate(config: MarketplaceConfig, out: str | Path, progress: Progress | None = None) -> Summary:
    """Simulates a marketplace and writes its event log and oracle, all or nothing.

    Memory is bounded by the world and one day's request times, not by the number of rows.

    Args:
      config: what to simulate.
      out: a directory that does not exist yet, or is empty.
      progress: called after each day with the day and the shown rows so far.

    Returns:
      what the log holds, with the oracle's AUC.

    Raises:
      EventLogError: if `out` holds something already, or no user made a request.
      OSError: if it cannot be written.
    """
    world = build_world(config)
    policy = Policy(world)
    builder = SummaryBuilder()
    with create_event_log(out, MANIFEST) as writer:
        writer.write_users(make_users_table(config, world.population))
        writer.write_items(make_items_table(config, world.catalogue))
        files = _BlockWriter(config, writer)
        for day in range(config.num_days):
            requests = draw_requests(world, day)
            for number, first in enumerate(range(0, max(requests.user.size, 1), REQUESTS_PER_BLOCK)):
                part = slice(first, first + REQUESTS_PER_BLOCK)
                block_requests = Requests(requests.user[part], requests.timestamp_ms[part])
                block = simulate_block(world, policy, day, number, block_requests)
                files.write(day, number, block_requests, block)
                builder.add(block)
            if progress is not None:
                progress(config.start_date + dt.timedelta(days=day), builder.num_shown)
        if not builder.num_shown:
            raise EventLogError(
                f"{out}: no request was made: {config.num_users} users in {config.num_days} days, each "
                f"{config.requests_per_user_day} a day on average. Simulate more users (--users), days "
                "(--days) or requests (--requests-per-user-day); nothing was written."
            )
        summary = builder.build()
        params = {
            "synthetic": True,
            "config": config.to_json(),
            "world_checksum": world.checksum(),
            "summary": dataclasses.asdict(summary),
        }
        text = json.dumps(params, indent=2) + "\n"
        (writer.path / ORACLE_DIR / PARAMS_FILE).write_text(text, encoding="utf-8")
    return summary


class _BlockWriter:
    """Turns blocks into files: one of the log and one of the oracle each, with the same rows.

    Args:
      config: the config, for the ids and dates.
      writer: the log's writer.
    """

    def __init__(self, config: MarketplaceConfig, writer: EventLogWriter):
        self._config = config
        self._writer = writer
        self._user_ids = make_ids("u", config.num_users)
        self._item_ids = make_ids("i", config.num_items)
        self._city_ids = make_ids("city", NUM_CITIES, 2)
        (writer.path / ORACLE_DIR).mkdir()

    def write(self, day: int, number: int, requests: Requests, block: Block) -> None:
        """Writes block `number` of a day."""
        date = self._config.start_date + dt.timedelta(days=day)
        # Unique over the log, and silent about the user.
        ids = make_ids(f"r{date:%Y%m%d}-", requests.user.size, 8, first=number * REQUESTS_PER_BLOCK)
        request = pa.array(block.request)
        request_ids = ids.take(request)
        item_ids = self._item_ids.take(pa.array(block.item))
        columns = {
            "request_id": request_ids,
            "user_id": self._user_ids.take(pa.array(requests.user)).take(request),
            "item_id": item_ids,
            "timestamp": pa.array(requests.timestamp_ms).cast(TIMESTAMP).take(request),
            **_make_outcome_columns(self._config, block),
            "device": pa.array(DEVICES).take(pa.array(block.device)).take(request),
            "city": self._city_ids.take(pa.array(block.city)).take(request),
        }
        self._writer.write_impressions(date, pa.table(columns))
        oracle = {
            "request_id": request_ids,
            "item_id": item_ids,
            "click_probability": block.click_probability,
            "conversion_probability": block.conversion_probability,
        }
        folder = self._writer.path / ORACLE_DIR / f"date={date.isoformat()}"
        folder.mkdir(exist_ok=True)
        pq.write_table(
            pa.table(oracle),
            folder / f"part-{number:05d}.parquet",
            compression="zstd",
            use_dictionary=["request_id", "item_id"],  # probabilities hardly repeat
        )


def _make_outcome_columns(config: MarketplaceConfig, block: Block) -> dict[str, pa.Array]:
    """Position and what follows it: null for what was not shown, and times for what did not happen."""
    num_rows = block.item.size
    position = np.full(num_rows, -1, np.int32)
    position[block.shown] = np.tile(
        np.arange(config.page_size, dtype=np.int32), block.shown.size // config.page_size
    )
    not_shown = position < 0
    clicked = np.zeros(num_rows, bool)
    clicked[block.clicked_row] = True
    converted = np.zeros(num_rows, bool)
    converted[block.clicked_row] = block.converted
    clicked_ms = np.zeros(num_rows, np.int64)
    clicked_ms[block.clicked_row] = block.clicked_ms
    converted_ms = np.zeros(num_rows, np.int64)
    converted_ms[block.clicked_row] = block.converted_ms
    dwell_seconds = np.zeros(num_rows, np.float32)
    dwell_seconds[block.clicked_row] = block.dwell_seconds
    return {
        "position": pa.array(position, mask=not_shown),
        "clicked": pa.array(clicked, mask=not_shown),
        "clicked_at": pa.array(clicked_ms, mask=~clicked).cast(TIMESTAMP),
        "converted": pa.array(converted, mask=not_shown),
        "converted_at": pa.array(converted_ms, mask=~converted).cast(TIMESTAMP),
        "dwell_seconds": pa.array(dwell_seconds, mask=~clicked),
    }

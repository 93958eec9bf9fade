"""The ground truth of a simulated log: for evaluation, never for a feature."""

import datetime as dt
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sources.event_log import ORACLE_DIR, TIMESTAMP
from sources.marketplace.behaviour import compute_item_log_odds, compute_match, sigmoid
from sources.marketplace.catalogue import DAY_MS, make_ids, start_ms
from sources.marketplace.config import MarketplaceConfig
from sources.marketplace.policy import Policy
from sources.marketplace.simulate import PARAMS_FILE
from sources.marketplace.summary import Summary
from sources.marketplace.world import build_world

ROWS_PER_STEP = 64  # bounds the memory of a large batch

Timestamps: TypeAlias = Sequence[dt.datetime] | np.ndarray | pa.Array


class Oracle:
    """The world that wrote a log, rebuilt from `oracle/params.json`. I items, B queries.

    Attributes:
      config: what was simulated.
      summary: what the log holds.
      item_ids: [I] ids of the whole catalogue, in the order of every result's columns.

    Args:
      log_dir: the event log's directory.

    Raises:
      FileNotFoundError: if the log has no oracle: it is not a simulated one.
      ValueError: if this version of the simulator rebuilds another world than the log's.
    """

    def __init__(self, log_dir: str | Path):
        path = Path(log_dir) / ORACLE_DIR / PARAMS_FILE
        if not path.is_file():
            raise FileNotFoundError(f"{path}: missing. Only a log made by `winnow simulate` has an oracle.")
        params = json.loads(path.read_text(encoding="utf-8"))
        self.config = MarketplaceConfig(**params["config"])
        self.summary = Summary(**params["summary"])
        self._world = build_world(self.config)
        checksum, wanted = self._world.checksum(), params["world_checksum"]
        # Not bit for bit: another processor may round the last digit otherwise.
        if checksum.keys() != wanted.keys() or not all(
            math.isclose(checksum[name], wanted[name], rel_tol=1e-5) for name in wanted
        ):
            raise ValueError(
                f"{path}: the simulator or NumPy has changed since this log was written, so its ground truth "
                "cannot be rebuilt. Simulate the log again."
            )
        self._policy = Policy(self._world)
        self._user_ids = make_ids("u", self.config.num_users)
        self.item_ids: np.ndarray = make_ids("i", self.config.num_items).to_numpy(zero_copy_only=False)

    def relevance(self, user_ids: Sequence[str], timestamps: Timestamps) -> np.ndarray:
        """True click log-odds of every item, before position and page effects.

        Args:
          user_ids: B ids.
          timestamps: B times within the log (UTC).

        Returns:
          [B, I] float32; -inf for items that are published later.

        Raises:
          ValueError: if a user or time is not of this log, or their numbers differ.
        """
        return self._compute(user_ids, timestamps, with_exposure=False)

    def retrieval_scores(self, user_ids: Sequence[str], timestamps: Timestamps) -> np.ndarray:
        """Log probability that a request shows the item and it is clicked: the ceiling of retrieval.

        Position bias is averaged over the positions that the policy would give the item; page effects, which
        depend on the other items, are left out.

        Args:
          user_ids: B ids.
          timestamps: B times within the log (UTC).

        Returns:
          [B, I] float32; -inf for items that the policy does not know yet.

        Raises:
          ValueError: if a user or time is not of this log, or their numbers differ.
        """
        return self._compute(user_ids, timestamps, with_exposure=True)

    def _compute(self, user_ids: Sequence[str], timestamps: Timestamps, *, with_exposure: bool) -> np.ndarray:
        users, times_ms = self._parse(user_ids, timestamps)
        days = (times_ms - start_ms(self.config)) // DAY_MS
        scores = np.empty((users.size, self.config.num_items), np.float32)
        for day in np.unique(days).tolist():
            rows = np.flatnonzero(days == day)
            for step in np.split(rows, range(ROWS_PER_STEP, rows.size, ROWS_PER_STEP)):
                log_odds = self._compute_log_odds(day, users[step])
                if with_exposure:
                    exposure = self._policy.compute_examined_exposure(day, users[step], log_odds)
                    with np.errstate(divide="ignore"):
                        scores[step] = np.log(exposure * sigmoid(log_odds))
                else:
                    scores[step] = log_odds
        scores[self._world.catalogue.published_ms > times_ms[:, None]] = -np.inf
        return scores

    def _compute_log_odds(self, day: int, users: np.ndarray) -> np.ndarray:
        items = np.broadcast_to(np.arange(self.config.num_items), (users.size, self.config.num_items))
        return compute_match(self._world, day, users, items) + compute_item_log_odds(self._world, day)

    def _parse(self, user_ids: Sequence[str], timestamps: Timestamps) -> tuple[np.ndarray, np.ndarray]:
        """User numbers [B] and milliseconds since the epoch [B]."""
        wanted = pa.array(user_ids, pa.string())
        users = pc.index_in(wanted, value_set=self._user_ids)
        if users.null_count:
            raise ValueError(f"user {wanted.filter(users.is_null())[0]}: not a user of this log")
        if not isinstance(timestamps, pa.Array | pa.ChunkedArray):
            timestamps = pa.array(timestamps, TIMESTAMP)
        times_ms = timestamps.cast(TIMESTAMP).cast(pa.int64()).to_numpy()
        if times_ms.size != len(users):
            raise ValueError(f"got {len(users)} users and {times_ms.size} timestamps, expected as many")
        first = start_ms(self.config)
        outside = (times_ms < first) | (times_ms >= first + self.config.num_days * DAY_MS)
        if outside.any():
            last = self.config.start_date + dt.timedelta(days=self.config.num_days - 1)
            raise ValueError(
                f"timestamp {np.datetime64(int(times_ms[outside][0]), 'ms')}: expected one of the log's "
                f"days, {self.config.start_date} to {last}"
            )
        return users.to_numpy(), times_ms

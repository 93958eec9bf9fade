import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from sources.event_log import TIMESTAMP

DAY = dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc)


@pytest.fixture(scope="session")
def make_log_tables():
    """Builds (rows, users, items) of a random core event log; half of the shown rows are clicked."""

    def make(seed=0, num_users=5, num_items=7, num_requests=60, page=3, candidates=5):
        rng = np.random.default_rng(seed)
        users, items = [f"u{i}" for i in range(num_users)], [f"i{i}" for i in range(num_items)]
        records = []
        for request in range(num_requests):
            user = users[rng.integers(num_users)]
            # Whole minutes of one day, so that requests and clicks do collide.
            at = DAY + dt.timedelta(minutes=int(rng.integers(600)))
            for place, item in enumerate(rng.choice(num_items, candidates, replace=False)):
                shown = place < page
                clicked = bool(shown and rng.random() < 0.5)
                converted = bool(clicked and rng.random() < 0.5)
                clicked_at = at + dt.timedelta(minutes=int(rng.integers(90))) if clicked else None
                records.append(
                    {
                        "request_id": f"r{request:03d}",
                        "user_id": user,
                        "item_id": items[item],
                        "position": place if shown else None,
                        "timestamp": at,
                        "clicked": clicked if shown else None,
                        "clicked_at": clicked_at,
                        "converted": converted if shown else None,
                        "converted_at": clicked_at if converted else None,
                        "dwell_seconds": float(rng.integers(1, 60)) if clicked else None,
                    }
                )
        schema = pa.schema(
            [
                ("request_id", pa.string()),
                ("user_id", pa.string()),
                ("item_id", pa.string()),
                ("position", pa.int32()),
                ("timestamp", TIMESTAMP),
                ("clicked", pa.bool_()),
                ("clicked_at", TIMESTAMP),
                ("converted", pa.bool_()),
                ("converted_at", TIMESTAMP),
                ("dwell_seconds", pa.float32()),
            ]
        )
        return (
            pa.Table.from_pylist(records, schema),
            pa.table({"user_id": users}),
            pa.table(
                {
                    "item_id": items,
                    "title": [f"Title {i}" for i in range(num_items)],
                    "category": [f"c{i % 3}" for i in range(num_items)],
                    "published_at": pa.array([DAY] * num_items, TIMESTAMP),
                }
            ),
        )

    return make

"""How fast the simulated marketplace is written, and in how much memory.

    python -m benchmarks.simulator_throughput --rows 10000000 --json

Rows are shown rows; every one comes with about five candidates, which are written too. One process, one core:
thread pools are limited to one thread, and CPU time is reported beside wall time.
"""

import argparse
import json
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from sources.marketplace import MarketplaceConfig, simulate

NUM_DAYS = 14
ROWS_PER_USER_DAY = 10  # one request of ten rows


def measure_throughput(num_rows: int, folder: Path) -> dict[str, Any]:
    """Simulates about `num_rows` shown rows into a new directory under `folder` and measures it."""
    config = MarketplaceConfig(
        num_users=max(1, num_rows // (NUM_DAYS * ROWS_PER_USER_DAY)),
        num_items=100_000,
        num_shops=5_000,
        num_brands=1_000,
        num_days=NUM_DAYS,
        requests_per_user_day=1.15,  # users who join later make none before
    )
    log_dir = folder / "log"
    wall, cpu = time.perf_counter(), time.process_time()
    summary = simulate(config, log_dir)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    num_bytes = sum(file.stat().st_size for file in log_dir.rglob("*") if file.is_file())
    return {
        "shown_rows": summary.num_shown,
        "candidate_rows": summary.num_candidates,
        "num_users": config.num_users,
        "num_items": config.num_items,
        "wall_seconds": round(wall, 2),
        "cpu_seconds": round(cpu, 2),
        "shown_rows_per_second": round(summary.num_shown / wall),
        "shown_rows_per_cpu_second": round(summary.num_shown / cpu),
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "written_mib": round(num_bytes / 2**20),
    }


def main() -> None:
    """Prints the measurement."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000, help="shown rows (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    folder = Path(tempfile.mkdtemp(prefix="simulator-throughput-"))
    try:
        result = measure_throughput(args.rows, folder)
    finally:
        shutil.rmtree(folder)
    if args.json:
        json.dump(result, sys.stdout, indent=2)
        print()
    else:
        print("simulated marketplace (synthetic), one core")
        for name, value in result.items():
            print(f"  {name:26s} {value:>14,}")


if __name__ == "__main__":
    main()

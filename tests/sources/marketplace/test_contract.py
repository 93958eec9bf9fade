"""What the simulator writes: a valid event log, reproducible, all or nothing, in bounded memory."""

import dataclasses
import datetime as dt
import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from sources.event_log import EventLog, EventLogError
from sources.marketplace import MarketplaceConfig, Oracle, simulate
from sources.marketplace.requests import REQUESTS_PER_BLOCK
from sources.validation import validate_event_log


def test_log_is_valid_and_says_that_it_is_synthetic(small_log):
    log = EventLog(small_log.path)
    validate_event_log(log)
    assert log.manifest.synthetic
    assert (log.manifest.source, log.manifest.schema) == ("marketplace", "marketplace")
    assert len(log.partitions()) == small_log.config.num_days
    assert json.loads((small_log.path / "oracle" / "params.json").read_text())["synthetic"] is True


def test_requests_are_pages_in_time_order(small_log):
    rows, shown, config = small_log.rows, small_log.shown, small_log.config
    assert rows.timestamp.is_monotonic_increasing
    by_request = rows.groupby("request_id", sort=False)
    assert (by_request[["user_id", "timestamp", "device", "city"]].nunique() == 1).all(axis=None)
    assert (rows.request_id != rows.request_id.shift()).sum() == rows.request_id.nunique()  # contiguous
    assert not rows.duplicated(["request_id", "item_id"]).any()
    assert by_request.size().between(config.page_size, config.num_candidates).all()
    assert by_request.size().mean() > 0.85 * config.num_candidates
    pages = shown.sort_values(["request_id", "position"]).position.to_numpy().reshape(-1, config.page_size)
    assert (pages == np.arange(config.page_size)).all()
    published = small_log.items.published_at.to_numpy()[rows.item]
    assert (published < rows.timestamp.to_numpy()).all()


def test_what_follows_a_click_is_null_without_it(small_log):
    rows, shown = small_log.rows, small_log.shown
    assert rows.clicked.isna().equals(rows.position.isna())
    assert rows.converted.isna().equals(rows.position.isna())
    assert rows.clicked_at.notna().equals(rows.was_clicked)
    assert rows.dwell_seconds.notna().equals(rows.was_clicked)
    assert rows.converted_at.notna().equals(rows.was_converted)
    assert rows.was_clicked[rows.was_converted].all()
    assert (shown.clicked_at.dropna() > shown.timestamp[shown.was_clicked]).all()
    converted = shown[shown.was_converted]
    assert (converted.converted_at > converted.clicked_at).all()
    assert (converted.converted_at.dt.date > converted.timestamp.dt.date).any()  # some the day after


def test_titles_tell_category_and_brand(small_log):
    words = small_log.items.title.str.split(expand=True)
    assert small_log.items.groupby(words[1]).brand.nunique().eq(1).all()
    assert small_log.items.groupby(words[2]).category.nunique().eq(1).all()


def compute_auc(score, label):
    rank, positives = score.rank().to_numpy(), label.to_numpy()
    num = positives.sum()
    return (rank[positives].sum() - num * (num + 1) / 2) / num / (len(positives) - num)


def test_summary_counts_the_log(small_log):
    summary, shown = small_log.summary, small_log.shown
    assert summary.num_requests == small_log.rows.request_id.nunique()
    assert summary.num_candidates == len(small_log.rows)
    assert summary.num_shown == len(shown) == summary.num_requests * small_log.config.page_size
    assert summary.num_clicks == shown.was_clicked.sum()
    assert summary.num_conversions == shown.was_converted.sum()
    assert summary.oracle_auc == pytest.approx(
        compute_auc(shown.click_probability, shown.was_clicked), abs=1e-3
    )


def test_defaults_give_a_log_of_the_documented_kind(tmp_path):
    summary = simulate(MarketplaceConfig(), tmp_path / "log")
    assert 200_000 < summary.num_shown < 250_000
    assert 0.07 < summary.click_rate < 0.11
    assert 0.06 < summary.conversion_rate < 0.11
    assert 0.75 < summary.oracle_auc < 0.85
    assert 0.58 < summary.oracle_conversion_auc < 0.7


def test_same_seed_gives_the_same_bytes(small_config, tmp_path):
    config = dataclasses.replace(small_config, num_days=2)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        simulate(dataclasses.replace(config, seed=seed), tmp_path / name)
    a, b, c = (EventLog(tmp_path / name).fingerprint() for name in "abc")
    assert a == b != c
    for file in (tmp_path / "a" / "oracle").rglob("*.*"):
        if file.is_file():
            assert file.read_bytes() == (tmp_path / "b" / file.relative_to(tmp_path / "a")).read_bytes()


def test_a_day_without_requests_and_the_smallest_world_are_valid(tmp_path):
    config = MarketplaceConfig(
        num_users=1,
        num_items=20,
        num_shops=48,
        num_categories=2,
        num_brands=1,
        num_days=3,
        requests_per_user_day=0.3,
        num_candidates=10,
        page_size=10,
        seed=1,  # one without a request on some of the days
    )
    summary = simulate(config, tmp_path / "log")
    assert summary.num_shown == 10 * summary.num_requests > 0
    rows = [pq.read_metadata(file).num_rows for file in (tmp_path / "log" / "impressions").rglob("*.parquet")]
    assert min(rows) == 0
    validate_event_log(EventLog(tmp_path / "log"))
    assert len(EventLog(tmp_path / "log").partitions()) == 3
    assert Oracle(tmp_path / "log").relevance(["u000000"], [dt.datetime(2024, 1, 1, 12)]).shape == (1, 20)


def test_a_failure_leaves_nothing_behind(small_config, tmp_path):
    def fail(day, num_shown):
        raise RuntimeError(day)

    with pytest.raises(RuntimeError):
        simulate(small_config, tmp_path / "log", progress=fail)
    assert not list(tmp_path.iterdir())


def test_an_existing_directory_is_refused(small_config, tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(EventLogError, match="exists already"):
        simulate(small_config, tmp_path)


def test_progress_reports_every_day(small_config, tmp_path):
    calls = []
    summary = simulate(small_config, tmp_path / "log", progress=lambda *call: calls.append(call))
    assert [day for day, _ in calls] == [small_config.start_date + dt.timedelta(days=n) for n in range(6)]
    assert calls[-1][1] == summary.num_shown


def test_memory_does_not_grow_with_rows(tmp_path):
    peaks = []
    for rows in (300_000, 1_200_000):
        command = [sys.executable, "-m", "benchmarks.simulator_throughput", "--json", "--rows", str(rows)]
        result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        assert result["shown_rows"] == pytest.approx(rows, rel=0.05)
        peaks.append(result["peak_rss_mib"])
    assert peaks[1] < 1.2 * peaks[0]  # four times the rows


def test_a_busy_day_is_written_in_several_files(simulate_log):
    log = simulate_log(num_users=2500, num_days=1, requests_per_user_day=2.5)
    files = next(iter(EventLog(log.path).partitions().values()))
    assert len(files) == -(-log.summary.num_requests // REQUESTS_PER_BLOCK) > 1
    assert log.rows.timestamp.is_monotonic_increasing


def test_a_simulation_without_a_request_leaves_nothing_behind(small_config, tmp_path):
    config = dataclasses.replace(small_config, num_users=1, num_days=1, requests_per_user_day=1e-9)
    with pytest.raises(EventLogError, match="no request was made: 1 users in 1 days"):
        simulate(config, tmp_path / "log")

    assert list(tmp_path.iterdir()) == []

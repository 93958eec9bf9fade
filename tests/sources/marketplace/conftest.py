"""A small marketplace, simulated once for all its tests, and logs of its effects."""

import dataclasses
import functools

import pandas as pd
import pyarrow.dataset as ds
import pytest

from sources.marketplace import EFFECTS, MarketplaceConfig, simulate

SMALL = MarketplaceConfig(
    num_users=800, num_items=1500, num_shops=80, num_brands=60, num_days=6, requests_per_user_day=1.5
)
ALL_OFF = dict.fromkeys(EFFECTS, False)


@dataclasses.dataclass(frozen=True)
class Log:
    config: MarketplaceConfig  # its world is the truth
    path: object
    summary: object
    rows: pd.DataFrame  # candidates, in file order, with the oracle's columns
    items: pd.DataFrame

    @property
    def shown(self):
        return self.rows[self.rows.position.notna()]


def read_log(config, path, summary=None):
    rows = ds.dataset(path / "impressions", partitioning="hive").to_table().to_pandas()
    oracle = (
        ds.dataset(path / "oracle", partitioning="hive", exclude_invalid_files=True).to_table().to_pandas()
    )
    assert (rows.request_id == oracle.request_id).all()
    assert (rows.item_id == oracle.item_id).all()
    probabilities = oracle[["click_probability", "conversion_probability"]]
    items = pd.read_parquet(path / "items.parquet")
    return Log(config, path, summary, with_numbers(rows).join(probabilities), items)


def with_numbers(rows):
    """Adds numbers for ids and days, and outcomes that are false rather than null."""
    return rows.assign(
        user=rows.user_id.str[1:].astype(int),
        item=rows.item_id.str[1:].astype(int),
        day=(rows.timestamp - rows.timestamp.min().normalize()).dt.days,
        was_clicked=rows.clicked.fillna(False).astype(bool),
        was_converted=rows.converted.fillna(False).astype(bool),
    )


@pytest.fixture(scope="session")
def small_config():
    return SMALL


@pytest.fixture(scope="session")
def small_log(tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "log"
    return read_log(SMALL, path, simulate(SMALL, path))


@pytest.fixture
def simulate_log(tmp_path):
    def run(**changes):
        path = tmp_path / f"log-{len(list(tmp_path.iterdir()))}"
        config = dataclasses.replace(SMALL, **changes)
        return read_log(config, path, simulate(config, path))

    return run


@pytest.fixture(scope="session")
def effect_log(tmp_path_factory):
    """The shown rows of a log with these effects alone, simulated once; `config` has all of them on."""

    @functools.cache
    def run(*effects):
        path = tmp_path_factory.mktemp("effect") / "log"
        switches = ALL_OFF | dict.fromkeys(effects, True)
        simulate(dataclasses.replace(SMALL, requests_per_user_day=5.0, **switches), path)
        is_shown = ds.field("position").is_valid()
        rows = ds.dataset(path / "impressions").to_table(filter=is_shown).to_pandas()
        return Log(SMALL, path, None, with_numbers(rows), pd.read_parquet(path / "items.parquet"))

    return run

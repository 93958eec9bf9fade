"""The sizes and switches of a marketplace: what is refused, and that nothing is lost in JSON."""

import dataclasses
import datetime as dt
import json

import pytest

from sources.marketplace import MarketplaceConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_users": 0}, "num_users is 0, expected a whole number from 1"),
        ({"num_items": 99}, "num_items is 99, expected a whole number from 100"),
        ({"num_days": 1.5}, "num_days is 1.5"),
        ({"page_size": 1}, "page_size is 1"),
        ({"num_candidates": 9}, "num_candidates is 9, expected a whole number from 10"),
        ({"num_shops": True}, "num_shops is True"),
        ({"seed": -1}, "seed is -1"),
        ({"requests_per_user_day": 0}, "requests_per_user_day is 0, expected a number above 0"),
        ({"requests_per_user_day": float("nan")}, "requests_per_user_day is nan"),
        ({"start_date": "soon"}, "start_date is 'soon', expected a date"),
        ({"start_date": "1960-01-01"}, "start_date is '1960-01-01', expected a date from 1971-01-01 to 2099"),
        ({"start_date": dt.date(9999, 12, 30)}, "start_date is '9999-12-30', expected a date from 1971"),
        ({"drift": 1}, "drift is 1, expected true or false"),
    ],
)
def test_config_refuses_what_cannot_be_simulated(changes, message):
    with pytest.raises(ValueError, match=message):
        MarketplaceConfig(**changes)


def test_config_survives_json(small_config):
    config = dataclasses.replace(small_config, start_date=dt.date(2023, 2, 28), drift=False)
    assert MarketplaceConfig(**json.loads(json.dumps(config.to_json()))) == config

import glob

import pandas as pd
import pytest
import tensorflow as tf

from serving.pushed_version import NothingPushedError, PushedVersion, read_user_state
from sources.event_log import EventLog
from sources.marketplace import MarketplaceConfig, simulate


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "events"
    simulate(
        MarketplaceConfig(num_users=30, num_items=150, num_shops=60, num_days=6, requests_per_user_day=4),
        path,
    )
    return EventLog(path)


def values(example, name):
    feature = tf.train.Example.FromString(example).features.feature[name]
    kind = feature.WhichOneof("kind")
    found = list(getattr(feature, kind).value) if kind else []
    return [v.decode() if isinstance(v, bytes) else v for v in found]


def test_the_request_of_a_user_holds_the_profile_and_the_newest_clicks(log):
    rows = pd.concat(pd.read_parquet(p) for p in glob.glob(f"{log.path}/impressions/*/*.parquet"))
    clicks = rows[rows.clicked.fillna(False).astype(bool)].sort_values(["clicked_at", "item_id"])
    user = clicks.user_id.value_counts().index[0]
    mine = clicks[clicks.user_id == user]
    assert len(mine) > 50
    state = read_user_state(log, user)
    assert state.is_known and sorted(state.clicked) == sorted(mine.item_id)
    # A click that became known after midnight of the last day is not known to a request at midnight.
    end = pd.Timestamp(max(log.partitions()), tz="UTC") + pd.Timedelta(days=1)
    known = mine[mine.clicked_at < end].item_id.tolist()[-50:]
    assert values(state.example, "history_item_id") == known
    items = pd.read_parquet(log.items_path).set_index("item_id")
    assert values(state.example, "history_category") == items.category[known].tolist()
    assert values(state.example, "history_shop_id") == items.shop_id[known].tolist()
    profile = pd.read_parquet(log.users_path).set_index("user_id").loc[user]
    assert values(state.example, "gender") == [profile.gender]
    assert values(state.example, "user_id") == [user]


def test_a_stranger_has_an_empty_history(log):
    state = read_user_state(log, "nobody")
    assert not state.is_known and state.clicked == []
    assert values(state.example, "history_item_id") == [] and values(state.example, "user_id") == ["nobody"]


def test_nothing_pushed_says_what_to_do(tmp_path):
    with pytest.raises(NothingPushedError, match="winnow run"):
        PushedVersion(tmp_path / "serving", "brute_force")

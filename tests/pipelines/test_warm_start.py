"""Which model a training starts from: decided so that an unchanged run stays unchanged."""

import dataclasses
import json

import pytest

from components.flavours import FLAVOURS, model_dir
from pipelines.config import RunConfig
from pipelines.paths import RunPaths
from pipelines.warm_start import Origin, find_origin
from sources.event_log import EventLog
from sources.marketplace import MarketplaceConfig, simulate
from trainers.retrieval.config import RetrievalConfig
from trainers.retrieval.export import EXTRA_DIR, ORIGIN_FILE

COLD = RunConfig()
WARM = RunConfig(retrieval=RetrievalConfig(warm_start=True))


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "events"
    simulate(MarketplaceConfig(num_users=20, num_items=100, num_shops=60, num_days=4), path)
    return EventLog(path)


def push(paths, version, origin):
    for flavour in FLAVOURS:
        extra = model_dir(paths.serving, flavour) / version / EXTRA_DIR
        extra.mkdir(parents=True)
        (extra / ORIGIN_FILE).write_text(json.dumps(dataclasses.asdict(origin)))
    return str(model_dir(paths.serving, "brute_force") / version)


def test_a_first_training_starts_from_nothing(events, tmp_path):
    assert find_origin(events, WARM, RunPaths(tmp_path)).warm_start_dir == ""


def test_other_data_starts_from_what_is_live(events, tmp_path):
    paths = RunPaths(tmp_path)
    push(paths, "1", Origin("of older data", ""))
    newest = push(paths, "2", Origin("of old data", "1"))
    assert find_origin(events, WARM, paths).warm_start_dir == newest
    assert find_origin(events, COLD, paths).warm_start_dir == ""


def test_the_same_training_starts_from_what_the_live_one_started_from(events, tmp_path):
    paths = RunPaths(tmp_path)
    first = find_origin(events, WARM, paths)
    push(paths, "1", first)
    assert find_origin(events, WARM, paths) == first


def test_the_key_follows_data_and_settings(events, tmp_path):
    paths = RunPaths(tmp_path)
    other = RunConfig(retrieval=RetrievalConfig(warm_start=True, seed=9))
    assert find_origin(events, WARM, paths).training_key == find_origin(events, WARM, paths).training_key
    assert find_origin(events, WARM, paths).training_key != find_origin(events, other, paths).training_key

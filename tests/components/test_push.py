"""What is live, and the push: every flavour under one version, whole or not at all."""

import json
import os
from pathlib import Path

import pytest
from tfx.proto.pusher_pb2 import PushDestination
from tfx.types import standard_artifacts
from tfx.types.artifact import Artifact
from tfx.utils import proto_utils

from components.flavours import (
    CONTENT_PROPERTY,
    FLAVOURS,
    compute_content_hash,
    find_live_version,
    live_folders,
    model_dir,
    package_dir,
    package_folders,
)
from components.live_model import VERSION_PROPERTY, copy_live
from components.version_pusher import (
    ALREADY_LIVE,
    NOT_BLESSED,
    REASON_PROPERTY,
    VERSION_FILE,
    Executor,
    push_version,
)


@pytest.fixture
def packages(tmp_path):
    for flavour in FLAVOURS:
        folder = Path(package_dir(str(tmp_path / "packages"), flavour))
        (folder / "assets").mkdir(parents=True)
        (folder / "saved_model.pb").write_text(f"the {flavour} model")
        (folder / "assets" / "ids").write_text("a\nb\n")
    return str(tmp_path / "packages")


def push(packages, serving, blessed, judged=None):
    """Runs the executor as TFX does; returns the PushedModel artifact."""
    model, blessing, pushed = (
        standard_artifacts.Model(),
        standard_artifacts.ModelBlessing(),
        standard_artifacts.PushedModel(),
    )
    model.uri, pushed.uri = packages, str(serving.parent / "pushed")
    os.makedirs(pushed.uri, exist_ok=True)
    blessing.set_int_custom_property("blessed", int(blessed))
    blessing.set_string_custom_property(
        CONTENT_PROPERTY, judged or compute_content_hash(package_folders(packages))
    )
    destination = PushDestination(filesystem=PushDestination.Filesystem(base_directory=str(serving)))
    Executor().Do(
        {"model": [model], "model_blessing": [blessing]},
        {"pushed_model": [pushed]},
        {"push_destination": proto_utils.proto_to_json(destination), "custom_config": json.dumps({})},
    )
    return pushed


def test_a_blessed_package_is_pushed_in_every_flavour(packages, tmp_path):
    serving = tmp_path / "serving"
    pushed = push(packages, serving, blessed=True)
    version = pushed.get_string_custom_property("pushed_version")
    assert pushed.get_int_custom_property("pushed") == 1
    assert version == find_live_version(serving) and version.isdecimal()
    assert compute_content_hash(live_folders(serving, version)) == compute_content_hash(
        package_folders(packages)
    )
    assert [p.name for p in serving.iterdir() if p.name.startswith(".")] == []


def test_an_unblessed_package_is_not_pushed(packages, tmp_path):
    pushed = push(packages, tmp_path / "serving", blessed=False)
    assert pushed.get_int_custom_property("pushed") == 0
    assert pushed.get_string_custom_property(REASON_PROPERTY) == NOT_BLESSED
    assert not (tmp_path / "serving").exists()


def test_what_was_changed_after_the_gate_is_not_pushed(packages, tmp_path):
    judged = compute_content_hash(package_folders(packages))
    (Path(package_dir(packages, "scann")) / "saved_model.pb").write_text("another model")
    with pytest.raises(ValueError, match=f"not what was judged .* expected {judged}"):
        push(packages, tmp_path / "serving", blessed=True, judged=judged)
    assert not (tmp_path / "serving").exists()


def test_equal_content_is_not_pushed_again_and_other_content_is(packages, tmp_path):
    serving = tmp_path / "serving"
    first = push(packages, serving, blessed=True).get_string_custom_property("pushed_version")
    again = push(packages, serving, blessed=True)
    assert again.get_int_custom_property("pushed") == 0
    assert again.get_string_custom_property(REASON_PROPERTY) == f"{ALREADY_LIVE} as version {first}"
    (Path(package_dir(packages, "scann")) / "saved_model.pb").write_text("another model")
    second = push(packages, serving, blessed=True).get_string_custom_property("pushed_version")
    assert int(second) > int(first)
    assert sorted(p.name for p in model_dir(serving, "scann").iterdir()) == [first, second]


def test_the_version_is_on_record_before_anything_of_it_can_be_seen(packages, tmp_path, monkeypatch):
    rename, recorded = os.rename, []

    def read_and_rename(source, target):
        recorded.append(((tmp_path / "pushed" / VERSION_FILE).read_text(), Path(target).name))
        rename(source, target)

    monkeypatch.setattr(os, "rename", read_and_rename)
    version = push(packages, tmp_path / "serving", blessed=True).get_string_custom_property("pushed_version")
    assert recorded == [(version, version)] * len(FLAVOURS)


def test_a_failed_copy_leaves_nothing(packages, tmp_path):
    for path in Path(package_dir(packages, "brute_force")).glob("saved_model.pb"):
        path.unlink()
        path.symlink_to("nowhere")
    with pytest.raises(Exception, match="nowhere|No such file"):
        push_version(packages, str(tmp_path / "serving"))
    left = [p for p in (tmp_path / "serving").rglob("*") if p.is_file()]
    assert left == [] and find_live_version(tmp_path / "serving") == ""


def test_a_version_counts_as_live_once_every_flavour_has_it(tmp_path):
    for flavour, versions in (("scann", ("3", "20")), ("brute_force", ("3", "notes", "5"))):
        for version in versions:
            (model_dir(tmp_path, flavour) / version).mkdir(parents=True)
    assert find_live_version(tmp_path) == "3"
    (model_dir(tmp_path, "brute_force") / "20").mkdir()
    assert find_live_version(tmp_path) == "20"


def run_live_model(out, serving, version):
    live: Artifact = standard_artifacts.Model()
    live.uri = str(out)
    copy_live(live, str(serving), version)
    return live


def test_live_model_copies_the_version_and_says_which(packages, tmp_path):
    version = push_version(packages, str(tmp_path / "serving"))
    live = run_live_model(tmp_path / "live", tmp_path / "serving", version)
    assert live.get_string_custom_property(VERSION_PROPERTY) == version
    assert live.get_string_custom_property(CONTENT_PROPERTY) == compute_content_hash(
        package_folders(packages)
    )
    assert compute_content_hash(package_folders(live.uri)) == compute_content_hash(package_folders(packages))


def test_live_model_is_empty_where_nothing_is_live(tmp_path):
    live = run_live_model(tmp_path / "live", tmp_path / "serving", "")
    assert live.get_string_custom_property(VERSION_PROPERTY) == ""
    assert not os.path.exists(live.uri)

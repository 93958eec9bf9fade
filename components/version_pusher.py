"""VersionPusher: TFX's Pusher, all flavours under one version, whole or not at all, never the same twice."""

import os
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

from tfx.components import Pusher
from tfx.components.pusher import executor
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.proto.pusher_pb2 import PushDestination
from tfx.types import artifact_utils, standard_component_specs
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

REASON_PROPERTY = "reason"
ALREADY_LIVE = "already live"
NOT_BLESSED = "not blessed"
# In the output's folder from before the first rename: which version a run that was killed since was pushing.
VERSION_FILE = "version"


class Executor(executor.Executor):
    """Replaces what Pusher does with the files; the check of the blessing is TFX's own.

    TFX copies into the version's final directory, where a server may find it half written; this stages
    beside it and renames. The exact flavour is renamed last: it is the one the live version is found by.
    """

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Pushes a blessed package unless it is live already (TFX's hook)."""
        self._log_startup(input_dict, output_dict, exec_properties)
        pushed = artifact_utils.get_single_instance(output_dict[standard_component_specs.PUSHED_MODEL_KEY])
        packages = artifact_utils.get_single_instance(input_dict[standard_component_specs.MODEL_KEY])
        destination = proto_utils.json_to_proto(
            exec_properties[standard_component_specs.PUSH_DESTINATION_KEY], PushDestination()
        )
        serving_dir = destination.filesystem.base_directory
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed)
            pushed.set_string_custom_property(REASON_PROPERTY, NOT_BLESSED)
            return
        live = find_live_version(serving_dir)
        candidate_hash = compute_content_hash(package_folders(packages.uri))
        blessing = artifact_utils.get_single_instance(input_dict[standard_component_specs.MODEL_BLESSING_KEY])
        judged_hash = blessing.get_string_custom_property(CONTENT_PROPERTY)
        if candidate_hash != judged_hash:
            raise ValueError(
                f"{packages.uri}: not what was judged (content {candidate_hash}, expected {judged_hash}): "
                "changed after the gate. Nothing was pushed. Delete that folder: the next run makes it again."
            )
        if live and compute_content_hash(live_folders(serving_dir, live)) == candidate_hash:
            self._MarkNotPushed(pushed)
            pushed.set_string_custom_property(REASON_PROPERTY, f"{ALREADY_LIVE} as version {live}")
            return
        version = push_version(packages.uri, serving_dir, Path(pushed.uri, VERSION_FILE))
        mark_pushed(pushed, serving_dir, version)


class VersionPusher(Pusher):
    """TFX's Pusher with the executor above; `push_destination` names the folder of all flavours."""

    EXECUTOR_SPEC = ExecutorClassSpec(Executor)


def mark_pushed(pushed: Artifact, serving_dir: str, version: str) -> None:
    """Sets the properties that TFX's Pusher sets, and a hash of what was pushed."""
    Executor()._MarkPushed(pushed, pushed_destination=serving_dir, pushed_version=version)
    pushed.set_string_custom_property(
        CONTENT_PROPERTY, compute_content_hash(live_folders(serving_dir, version))
    )


def push_version(packages_uri: str, serving_dir: str, version_file: Path | None = None) -> str:
    """Copies every flavour under a new version number, the present second or the next free one.

    Args:
      packages_uri: what was built.
      serving_dir: the push destination.
      version_file: gets the version's number once all is copied, before anything of it can be seen.

    Returns:
      the version.
    """
    live = find_live_version(serving_dir)
    version = str(max(int(time.time()), int(live or 0) + 1))
    staged = []
    try:
        for flavour in reversed(FLAVOURS):
            base = model_dir(serving_dir, flavour)
            # Outside the watched directory, on the same file system.
            staging = Path(serving_dir) / f".{base.name}-{uuid.uuid4().hex[:8]}.tmp"
            staged.append((staging, base / version))
            shutil.copytree(package_dir(packages_uri, flavour), staging)
            base.mkdir(parents=True, exist_ok=True)
        if version_file is not None:
            version_file.write_text(version, encoding="utf-8")
        for staging, target in staged:
            os.rename(staging, target)
    finally:
        for staging, _ in staged:
            shutil.rmtree(staging, ignore_errors=True)
    return version

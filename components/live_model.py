"""LiveModel: what is live now, as an artifact; resolved from the push destination, not from metadata.

TFX's resolver nodes leave FAILED executions where nothing is live yet, and open-source Kubeflow refuses
them; this is a plain component.
"""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

from tfx.types.artifact import Artifact
from tfx.v1.dsl.components import OutputArtifact, Parameter, component
from tfx.v1.types.standard_artifacts import Model

from components.index_builder.build import FLAVOURS, package_dir

VERSION_PROPERTY = "version"
CONTENT_PROPERTY = "content_hash"


@component
def LiveModel(
    live: OutputArtifact[Model],
    serving_dir: Parameter[str],
    version: Parameter[str],
    code_fingerprint: Parameter[str],
) -> None:
    """Copies the live version, or nothing where there is none.

    Args:
      live: its `VERSION_PROPERTY` is empty where nothing is live.
      serving_dir: the push destination.
      version: what `find_live_version` says; a parameter, so that a push runs this node again.
      code_fingerprint: see `pipelines.code_fingerprint`.
    """
    copy_live(live, serving_dir, version)


def copy_live(live: Artifact, serving_dir: str, version: str) -> None:
    """Copies a version of every flavour to the artifact; a later clean-up cannot take it from the run."""
    live.set_string_custom_property(VERSION_PROPERTY, version)
    if version:
        for flavour, source in live_folders(serving_dir, version).items():
            shutil.copytree(source, package_dir(live.uri, flavour), dirs_exist_ok=True)
        live.set_string_custom_property(CONTENT_PROPERTY, compute_content_hash(package_folders(live.uri)))


def model_dir(serving_dir: str | Path, flavour: str) -> Path:
    """The base directory of a flavour's versions, as TensorFlow Serving watches it."""
    return Path(serving_dir) / f"retrieval_{flavour}"


def find_live_version(serving_dir: str | Path) -> str:
    """The newest version that is there in every flavour, "" where there is none."""
    versions = [
        {p.name for p in model_dir(serving_dir, flavour).glob("*") if p.name.isdecimal() and p.is_dir()}
        for flavour in FLAVOURS
    ]
    complete = set.intersection(*versions)
    return max(complete, key=int, default="")


def compute_content_hash(folders: Mapping[str, str | Path]) -> str:
    """A hash of all files of a package, given the folder of each flavour."""
    digest = hashlib.sha256()
    for flavour, folder in sorted(folders.items()):
        for path in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
            digest.update(f"{flavour}/{path.relative_to(folder).as_posix()}".encode())
            with path.open("rb") as stream:
                while chunk := stream.read(1 << 20):
                    digest.update(chunk)
    return digest.hexdigest()[:16]


def package_folders(packages_uri: str) -> dict[str, str]:
    """The folder of each flavour of a package that was built."""
    return {flavour: package_dir(packages_uri, flavour) for flavour in FLAVOURS}


def live_folders(serving_dir: str | Path, version: str) -> dict[str, Path]:
    """The folder of each flavour of a version that was pushed."""
    return {flavour: model_dir(serving_dir, flavour) / version for flavour in FLAVOURS}

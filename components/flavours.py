"""The flavours of a package: one SavedModel each, where they lie once built and once pushed."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

BRUTE_FORCE = "brute_force"
SCANN = "scann"
FLAVOURS = (BRUTE_FORCE, SCANN)
CONTENT_PROPERTY = "content_hash"


def package_dir(packages_uri: str, flavour: str) -> str:
    """Where a flavour's SavedModel lies; the exact one where TFX expects a model's."""
    return os.path.join(packages_uri, "Format-Serving" if flavour == BRUTE_FORCE else f"Format-{flavour}")


def package_folders(packages_uri: str) -> dict[str, str]:
    """The folder of each flavour of a package that was built."""
    return {flavour: package_dir(packages_uri, flavour) for flavour in FLAVOURS}


def model_dir(serving_dir: str | Path, flavour: str) -> Path:
    """The base directory of a flavour's versions, as TensorFlow Serving watches it."""
    return Path(serving_dir) / f"retrieval_{flavour}"


def live_folders(serving_dir: str | Path, version: str) -> dict[str, Path]:
    """The folder of each flavour of a version that was pushed."""
    return {flavour: model_dir(serving_dir, flavour) / version for flavour in FLAVOURS}


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

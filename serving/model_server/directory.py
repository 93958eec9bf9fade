"""What lies in a push destination: `<model>/<version>/saved_model.pb`, as TensorFlow Serving has it."""

import re
from pathlib import Path

_VERSION = re.compile(r"[0-9]{1,18}")  # an int64


def find_versions(model_dir: Path) -> dict[int, Path]:
    """The versions of a model, whole or not; a pusher renames, so that what has a number is complete.

    Returns:
      each version's directory; none where the model's own does not exist.

    Raises:
      OSError: if the directory cannot be read.
    """
    try:
        return {
            int(path.name): path
            for path in sorted(model_dir.iterdir())
            if _VERSION.fullmatch(path.name) and path.is_dir()
        }
    except (FileNotFoundError, NotADirectoryError):
        return {}


def find_models(directory: Path) -> dict[str, Path]:
    """The models that have a version, by name.

    Raises:
      OSError: if the directory cannot be read.
    """
    return {
        path.name: path
        for path in sorted(directory.iterdir())
        if not path.name.startswith(".") and find_versions(path)
    }


def fingerprint(version_dir: Path) -> tuple[tuple[str, int, int], ...]:
    """Path, size and time of change (ns) of every file; differs once something in the directory does."""
    stats = [(path, path.lstat()) for path in sorted(version_dir.rglob("*"))]
    return tuple((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats)

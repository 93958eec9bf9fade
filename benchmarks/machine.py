"""What a benchmark ran on."""

import importlib.metadata
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path


def describe_machine(packages: Sequence[str]) -> str:
    """The processor, the cores this process may use, and the versions of Python and of packages.

    Args:
      packages: names of distributions.
    """
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    cores = len(os.sched_getaffinity(0))
    python = f"Python {platform.python_version()}"
    return f"{_read_processor()}, {cores} cores; " + ", ".join([python, *versions])


def _read_processor() -> str:
    path = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", path.read_text()) if path.exists() else None
    return found[1].strip() if found else platform.machine()

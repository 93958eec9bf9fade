"""Peers in processes of their own, which are asked for a round at a time."""

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.dien_speed import peers


class PeerError(Exception):
    """A peer that cannot be measured, and why."""


def describe_installation() -> str:
    """How environments are made that have all peers."""
    commands = [
        f"python3.11 -m venv peers{number} && peers{number}/bin/pip install {packages}"
        for number, packages in enumerate(peers.ENVIRONMENTS, 1)
    ]
    given = " ".join(f"--peer-python peers{number}/bin/python" for number in range(1, len(commands) + 1))
    return "\n".join([*commands, f"and give {given}"])


class PeerProcess:
    """A peer that is built and warm, in the first environment that has it; a context manager.

    Args:
      name: of `peers.PEERS`.
      pythons: the environments' interpreters.
      data: file of `data.save`.

    Raises:
      PeerError: if no environment has it, or it does not run there.
    """

    def __init__(self, name: str, pythons: Sequence[Path], data: Path):
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the process)
        self._process: subprocess.Popen[str] | None = None
        try:
            self.versions = self._build(pythons, data)
        except PeerError:
            self.close()
            raise

    def _build(self, pythons: Sequence[Path], data: Path) -> dict[str, str]:
        for python in pythons:
            self._process = self._start(python, data)
            answer = self._read(self._process)
            if "missing" not in answer:
                return answer["versions"]
            self._process.communicate()
        *_, package = peers.PEERS[self.name].packages
        raise PeerError(f"no --peer-python has {package}")

    def _start(self, python: Path, data: Path) -> subprocess.Popen[str]:
        threads = len(os.sched_getaffinity(0))
        # -I: neither this folder nor PYTHONPATH is where a peer's packages come from.
        command = [str(python), "-I", peers.__file__, self.name, str(data), str(threads)]
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
            )
        except OSError as error:
            raise PeerError(f"{python} does not run: {error.strerror}") from error

    def _read(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        assert process.stdout is not None
        if line := process.stdout.readline():
            return json.loads(line)
        code = process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip() or f"exit code {code}"
        raise PeerError(f"it stopped: {said.splitlines()[-1]}")

    def time_round(self) -> dict[str, float]:
        """What a step takes, see `peers.time_steps`.

        Raises:
          PeerError: if it stops.
        """
        assert self._process is not None and self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `_read` says why it has stopped
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        return self._read(self._process)

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            with contextlib.suppress(BrokenPipeError):  # of a line that it did not read
                self._process.communicate()
        self._errors.close()

    def __enter__(self) -> "PeerProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

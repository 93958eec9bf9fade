"""One run at a time in a root."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_FILE = "run.lock"


@contextmanager
def lock_root(root: Path) -> Iterator[None]:
    """Keeps other runs out of a root while the block runs; the system lets go when the process ends.

    The file stays: to remove it would let a third run lock another file of that name.

    Raises:
      SystemExit: if another process holds it.
    """
    with (root / LOCK_FILE).open("a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of this process alone: no child keeps it
        except BlockingIOError as error:
            file.seek(0)
            raise SystemExit(
                f"winnow: --root {root}: another run is at work there (process {file.read() or 'unknown'}). "
                "Wait until it has ended, stop it, or choose another --root."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield

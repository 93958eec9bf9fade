"""Results on disk: each is written once, under a hash of all it depends on, and read by later runs."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class ResultStore:
    """A folder of JSON files.

    Args:
      folder: made when the first result is written.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def path(self, depends_on: Mapping[str, Any]) -> Path:
        """Where the result of these circumstances is kept."""
        text = json.dumps(depends_on, sort_keys=True)
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"

    def fetch(
        self, depends_on: Mapping[str, Any], compute: Callable[[], dict[str, Any]]
    ) -> tuple[dict[str, Any], bool]:
        """Reads a result, or computes and writes it: under another name, renamed when it is complete.

        Args:
          depends_on: everything that would make it another result; JSON values.
          compute: makes it; JSON values.

        Returns:
          the result, and whether it was there already.
        """
        path = self.path(depends_on)
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))["result"], True
        result = compute()
        self._folder.mkdir(parents=True, exist_ok=True)
        staging = path.with_suffix(".tmp")
        staging.write_text(json.dumps({"depends_on": depends_on, "result": result}), encoding="utf-8")
        staging.rename(path)
        return result, False

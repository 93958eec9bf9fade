"""What the gates share: a check, and the report that holds a stage's checks."""

import dataclasses
import json
import os
from collections.abc import Iterable
from typing import Any

from tfx.dsl.io import fileio
from tfx.types.artifact import Artifact

from components.flavours import CONTENT_PROPERTY, compute_content_hash, package_folders

REPORT_FILE = "gate_report.json"
CHECKS_PROPERTY = "checks"


@dataclasses.dataclass(frozen=True)
class Check:
    """One condition: `value` must be at least (or at most, or above) `bound`.

    Attributes:
      name: what is compared.
      value: what was measured; for a comparison the lower bound of the difference.
      bound: what it must reach.
      at_most: whether `bound` is the largest allowed value.
      above: whether `bound` itself is too little.
      detail: the numbers behind a comparison.
    """

    name: str
    value: float
    bound: float
    at_most: bool = False
    above: bool = False
    detail: str = ""

    @property
    def passed(self) -> bool:
        """Whether the condition holds; NaN never does."""
        if self.above:
            return self.value > self.bound
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    @property
    def missed_by(self) -> float:
        """How far the value is on the wrong side of the bound; 0 if it passed."""
        return 0.0 if self.passed else abs(self.value - self.bound)


def write_gate_report(report: Artifact, checks: Iterable[Check]) -> None:
    """Writes a stage's checks to `REPORT_FILE` and, for the lineage, to a custom property of the report."""
    rows = [{**dataclasses.asdict(c), "passed": c.passed, "missed_by": c.missed_by} for c in checks]
    report.set_json_value_custom_property(CHECKS_PROPERTY, rows)
    write_json({"checks": rows}, os.path.join(report.uri, REPORT_FILE))


def is_live(packages: Artifact, live: Artifact) -> bool:
    """Whether the candidate's packages have the content of what is live (the artifact of `LiveModel`)."""
    live_hash = live.get_string_custom_property(CONTENT_PROPERTY)
    return bool(live_hash) and live_hash == compute_content_hash(package_folders(packages.uri))


def read_json(path: str) -> Any:
    """The content of a JSON file."""
    with fileio.open(path) as stream:
        return json.load(stream)


def write_json(content: Any, path: str) -> None:
    """Writes a JSON file, indented."""
    with fileio.open(path, "w") as stream:
        json.dump(content, stream, indent=2)

"""Where a run keeps what, below its root."""

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class RunPaths:
    """The folders and files of a root.

    Attributes:
      root: the directory given as --root.
    """

    root: Path

    @property
    def events(self) -> Path:
        """The simulated event log, where no other was given."""
        return self.root / "events"

    @property
    def artifacts(self) -> Path:
        """TFX's pipeline root."""
        return self.root / "artifacts"

    @property
    def metadata(self) -> Path:
        """ML Metadata, in SQLite."""
        return self.root / "metadata.sqlite"

    @property
    def schemas(self) -> Path:
        """The curated schemas, merged per source."""
        return self.root / "schemas"

    @property
    def serving(self) -> Path:
        """The push destination: a folder per flavour, a folder per version in each."""
        return self.root / "serving"

    @property
    def logs(self) -> Path:
        """What TFX, Beam and TensorFlow print, a file per run."""
        return self.root / "logs"

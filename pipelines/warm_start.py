"""Which model a training starts from, decided so that an unchanged run stays cached.

A resolver would hand the Trainer another model after every push, and the Trainer would never be cached.
Here a run whose live model came of the very same data, settings and code starts from what that model
started from: the parameters are then equal, and TFX finds the training done.
"""

import dataclasses
import hashlib
import json

from components.flavours import BRUTE_FORCE, find_live_version, live_folders
from pipelines.code_fingerprint import compute_code_fingerprint
from pipelines.config import RunConfig
from pipelines.paths import RunPaths
from sources.event_log import EventLog
from trainers.retrieval.export import EXTRA_DIR, ORIGIN_FILE


@dataclasses.dataclass(frozen=True)
class Origin:
    """What a retrieval model came of.

    Attributes:
      training_key: a hash of data, settings and code.
      warm_start_dir: the pushed version whose weights it started from, "" where from none.
    """

    training_key: str
    warm_start_dir: str


def find_origin(events: EventLog, config: RunConfig, paths: RunPaths) -> Origin:
    """The origin of the model that this run would train."""
    content = {
        "events": events.fingerprint(),
        "splits": dataclasses.asdict(config.splits),
        "retrieval": dataclasses.asdict(config.retrieval),
        "code": compute_code_fingerprint("trainers.retrieval.runner", "components.event_ingest.component"),
    }
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    live = find_live_version(paths.serving)
    if not config.retrieval.warm_start or not live:
        return Origin(key, "")
    folder = live_folders(paths.serving, live)[BRUTE_FORCE]
    origin = Origin(**json.loads((folder / EXTRA_DIR / ORIGIN_FILE).read_text(encoding="utf-8")))
    return origin if origin.training_key == key else Origin(key, str(folder))

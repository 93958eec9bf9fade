"""What settings of Winnow's model reach on the validation part, which they are chosen by.

    python -m benchmarks.movielens.try_settings PROTOCOL DATA [key=value ...]

PROTOCOL is `movielens-tutorial` or `leave-last-out`; a key is a field of `RetrievalConfig` or of `Settings`,
a value is YAML: `embedding_dim=128 history_size=100`. The others are the benchmark's own. `seeds=3` averages.
"""

from pipelines import tensorflow_setup  # noqa: F401, I001  (before TensorFlow)

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from benchmarks.movielens.data import HeldOutData, mean_metrics
from benchmarks.movielens.models import SETTINGS
from benchmarks.movielens.protocols import LAST_OUT, RANDOM_SPLIT
from benchmarks.movielens.ratings import read_movielens
from benchmarks.movielens.settings import Settings
from benchmarks.movielens.winnow_model import train_winnow


def measure_on_validation(data: HeldOutData, settings: Settings, num_seeds: int) -> pd.Series:
    """The protocol's metrics on the validation part, means over seeds."""
    scorers = (
        train_winnow(data, data.validation, settings, seed, with_time=False)
        for seed in range(1, num_seeds + 1)
    )
    return pd.DataFrame([mean_metrics(data.measure(scorer, "validation")) for scorer in scorers]).mean()


def apply(settings: Settings, changes: dict[str, Any]) -> Settings:
    """The settings with other values, by the names of their fields or of the towers'."""
    own = {x.name for x in dataclasses.fields(Settings)} & set(changes)
    towers = {name: value for name, value in changes.items() if name not in own}
    changed = dataclasses.replace(settings, towers=dataclasses.replace(settings.towers, **towers))
    return dataclasses.replace(changed, **{name: changes[name] for name in own})


def main() -> None:
    """Prints one line."""
    name, folder, *pairs = sys.argv[1:]
    protocol = {x.name: x for x in (RANDOM_SPLIT, LAST_OUT)}[name]
    changes = {key: yaml.safe_load(value) for key, _, value in (pair.partition("=") for pair in pairs)}
    num_seeds = changes.pop("seeds", 1)
    data = HeldOutData(read_movielens(Path(folder)), protocol)
    means = measure_on_validation(data, apply(SETTINGS[name], changes), num_seeds)
    print(" ".join(pairs), "  ".join(f"{metric} {value:.4f}" for metric, value in means.items()), flush=True)


if __name__ == "__main__":
    main()

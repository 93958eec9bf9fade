"""Rankers of random weights, exported for one user's request of a fixed shape."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from schemas import features as f
from trainers.preprocessing import EncodedFeature
from trainers.ranking.config import RankerConfig
from trainers.ranking.model import Ranker
from trainers.saved_models import save_signatures
from trainers.scorers.data import REQUEST
from trainers.scorers.scores import Inputs

NUM_USERS, NUM_ITEMS, NUM_CATEGORIES = 10_000, 60_000, 800
_ITEM = ("item_id_index", NUM_ITEMS + 1)
_CATEGORY = ("category_index", NUM_CATEGORIES + 1)
FEATURES = (
    EncodedFeature("user_id_index", "user_id_index", NUM_USERS + 1, f.Role.QUERY, "user_id", False),
    EncodedFeature("history_item_id_index", *_ITEM, f.Role.QUERY, "history", True),
    EncodedFeature("history_category_index", *_CATEGORY, f.Role.QUERY, "history", True),
    EncodedFeature("item_id_index", *_ITEM, f.Role.CANDIDATE, "item_id", False),
    EncodedFeature("category_index", *_CATEGORY, f.Role.CANDIDATE, "attributes", False),
)


@dataclasses.dataclass(frozen=True)
class RequestShape:
    """One user's request."""

    candidates: int
    history: int


def make_inputs(shape: RequestShape, seed: int = 0) -> dict[str, tf.Tensor]:
    """One user's history and candidates, as a ranker takes them in."""
    rng = np.random.default_rng(seed)
    items = rng.integers(1, NUM_ITEMS + 1, shape.history + shape.candidates)
    categories = items % NUM_CATEGORIES + 1
    columns = {
        "user_id_index": rng.integers(1, NUM_USERS + 1, 1),
        "history_item_id_index": items[np.newaxis, : shape.history],
        "history_category_index": categories[np.newaxis, : shape.history],
        "item_id_index": items[shape.history :],
        "category_index": categories[shape.history :],
        REQUEST: np.zeros(shape.candidates, np.int32),
    }
    return {name: tf.constant(values) for name, values in columns.items()}


def export(
    config: RankerConfig, shape: RequestShape, folder: Path, *, tiled: bool, xla: bool
) -> Callable[[Inputs], tf.Tensor]:
    """Saves a ranker for requests of one shape and loads it again.

    Args:
      config: of the ranker; its weights are random, from its seed.
      shape: of every request.
      folder: for the SavedModel.
      tiled: whether the history is repeated for each candidate, as an export does that knows rows alone.
      xla: whether XLA compiles it.

    Returns:
      a function from `make_inputs` to logits [N, 1].
    """
    tf.keras.utils.set_random_seed(config.seed)
    ranker = Ranker(FEATURES, config, [0.1])
    inputs = make_inputs(shape)
    ranker(inputs)

    def score(inputs: Inputs) -> tf.Tensor:
        if tiled:
            query = [x.name for x in FEATURES if x.role is f.Role.QUERY]
            rows = {name: tf.gather(inputs[name], inputs[REQUEST]) for name in query}
            inputs = {**inputs, **rows, REQUEST: tf.range(shape.candidates)}
        return ranker(inputs).logits

    specs = {name: tf.TensorSpec(x.shape, x.dtype, name) for name, x in inputs.items()}
    module = tf.Module()
    module.score = tf.function(score, input_signature=[specs], jit_compile=xla, autograph=False)
    module.variables_kept = list(ranker.variables)
    path = str(folder / f"{shape.candidates}-{shape.history}-{tiled}-{xla}")
    save_signatures(module, path, {})
    loaded = tf.saved_model.load(path)
    return functools.partial(_call, loaded)  # which keeps the variables


def _call(loaded: Any, inputs: Inputs) -> tf.Tensor:
    return loaded.score(inputs)

"""Weights of an earlier model for a new one, whose vocabularies differ."""

import os

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from trainers.retrieval.export import EXTRA_DIR, WEIGHTS_FILE
from trainers.retrieval.model import RetrievalModel


def load_weights(model: RetrievalModel, model_dir: str, transform_output: tft.TFTransformOutput) -> int:
    """Copies what both models have: variables of equal shape, and embedding rows of equal tokens.

    Args:
      model: the new model, its variables created.
      model_dir: the earlier model as `export_towers` wrote it.
      transform_output: the new model's Transform graph.

    Returns:
      the number of variables taken over, in full or in part.

    Raises:
      FileNotFoundError: if the earlier model holds no weights.
    """
    path = os.path.join(model_dir, EXTRA_DIR, WEIGHTS_FILE)
    if not tf.io.gfile.exists(path):
        raise FileNotFoundError(f"{path}: missing; a warm start needs a model that this trainer exported")
    with tf.io.gfile.GFile(path, "rb") as stream:
        earlier = dict(np.load(stream))
    taken = 0
    for variable in model.trainable_variables:
        values = earlier.get(variable.name)
        if values is None or values.shape[1:] != variable.shape[1:]:
            continue
        old_rows, new_rows = _matching_rows(variable.name, model_dir, transform_output)
        if new_rows is not None:
            merged = variable.numpy()
            merged[new_rows] = values[old_rows]
            variable.assign(merged)
        elif values.shape == variable.shape:
            variable.assign(values)
        else:
            continue
        taken += 1
    return taken


def _matching_rows(
    variable_name: str, model_dir: str, transform_output: tft.TFTransformOutput
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Rows of the same token in an old and a new embedding table; None where it has no vocabulary."""
    table = variable_name.rsplit("/", maxsplit=1)[-1].split(":", maxsplit=1)[0]
    vocabulary, _, suffix = table.rpartition("_")
    old_path = os.path.join(model_dir, "assets", vocabulary)
    if suffix not in ("index", "tokens") or not tf.io.gfile.exists(old_path):
        return None, None
    with tf.io.gfile.GFile(old_path, "rb") as stream:
        old = {token: row for row, token in enumerate(stream.read().splitlines(), start=1)}
    new = transform_output.vocabulary_by_name(vocabulary)
    pairs = [(0, 0)] + [(old[token], row) for row, token in enumerate(new, start=1) if token in old]
    old_rows, new_rows = np.array(pairs).T
    return old_rows, new_rows

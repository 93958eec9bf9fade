"""The trained towers as one SavedModel that takes raw features; nothing is preprocessed outside it."""

import dataclasses
import io
import json
import os

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from schemas import features as f
from trainers.raw_features import EXAMPLES, EXTRA_DIR, ServedModel, unpad
from trainers.retrieval.item_to_item import anchor_source
from trainers.retrieval.model import RetrievalModel

QUERY_SIGNATURE = "query_vector"
QUERY_RAW_SIGNATURE = "query_vector_raw"
ITEM_SIGNATURE = "item_vector"
ANCHOR_SIGNATURE = "anchor_vector"
VECTORS = "vectors"
WEIGHTS_FILE = "weights.npz"
ORIGIN_FILE = "origin.json"


class _ServedCandidates(ServedModel):
    """The candidate tower behind the Transform graph; what the query is, a subclass says.

    Args:
      model: the trained model.
      transform_output: the Transform graph it was trained with.
    """

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string, EXAMPLES)])
    def item_vector(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Ids [B] and vectors [B, D] of serialized tf.Examples [B] that hold the item features."""
        raw = self._raw.parse(examples, f.Role.CANDIDATE)
        vectors = self._model.candidate_tower(self._raw.encode(raw, self._model.candidate_features))
        return {f.ITEM_ID: raw[f.ITEM_ID], VECTORS: vectors}


class ServedTowers(_ServedCandidates):
    """Both towers of a user-to-item model."""

    def _query_vectors(self, raw: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {VECTORS: self._model.query_tower(self._raw.encode(raw, self._model.query_features))}

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string, EXAMPLES)])
    def query_vector(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Vectors [B, D] of serialized tf.Examples [B] that hold the query features."""
        return self._query_vectors(self._raw.parse(examples, f.Role.QUERY))

    def query_vector_raw(self) -> tf.types.experimental.ConcreteFunction:
        """The same as `query_vector` from dense raw features, see `RawFeatures.dense_signature`."""

        @tf.function(autograph=False)
        def from_dense(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            return self._query_vectors(unpad(inputs))

        return from_dense.get_concrete_function(**self._raw.dense_signature(f.Role.QUERY))


class ServedItemTowers(_ServedCandidates):
    """Both towers of an item-to-item model."""

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string, EXAMPLES)])
    def anchor_vector(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Ids [B] and, as anchors, vectors [B, D] of serialized tf.Examples [B] with the item features."""
        items = self._raw.parse(examples, f.Role.CANDIDATE)
        # An item that was just clicked: its columns are a history of one event.
        names = {name: name.removeprefix(f.HISTORY_PREFIX) for name in self._raw.names(f.Role.QUERY)}
        history = {name: _as_ragged(items[base]) for name, base in names.items() if base in items}
        features = self._model.query_features
        sources = [dataclasses.replace(x, name=anchor_source(x)) for x in features]
        encoded = self._raw.encode(history, sources)
        anchor = {x.name: tf.maximum(encoded[anchor_source(x)][:, 0], 0) for x in features}  # 0 is no padding
        return {f.ITEM_ID: items[f.ITEM_ID], VECTORS: self._model.query_tower(anchor)}


def _as_ragged(values: tf.Tensor | tf.RaggedTensor) -> tf.RaggedTensor:
    """[B] as lists of one."""
    if isinstance(values, tf.RaggedTensor):
        return values
    return tf.RaggedTensor.from_tensor(values[:, tf.newaxis])


def export_towers(
    model: RetrievalModel, transform_output: tft.TFTransformOutput, path: str, origin: dict[str, str]
) -> None:
    """Writes the SavedModel and, in its assets.extra, what a later warm start needs.

    Args:
      model: the trained model.
      transform_output: the Transform graph it was trained with.
      path: the directory to write.
      origin: what the model came of, for `ORIGIN_FILE`; see `pipelines.warm_start.Origin`.
    """
    towers = ServedTowers(model, transform_output)
    signatures = {
        QUERY_SIGNATURE: towers.query_vector,
        QUERY_RAW_SIGNATURE: towers.query_vector_raw(),
        ITEM_SIGNATURE: towers.item_vector,
    }
    towers.save(path, signatures)
    extra = os.path.join(path, EXTRA_DIR)
    tf.io.gfile.makedirs(extra)
    weights = io.BytesIO()
    np.savez(weights, **{variable.name: variable.numpy() for variable in model.trainable_variables})
    with tf.io.gfile.GFile(os.path.join(extra, WEIGHTS_FILE), "wb") as stream:
        stream.write(weights.getvalue())
    with tf.io.gfile.GFile(os.path.join(extra, ORIGIN_FILE), "w") as stream:
        json.dump(origin, stream)


def export_item_towers(model: RetrievalModel, transform_output: tft.TFTransformOutput, path: str) -> None:
    """Writes the SavedModel of an item-to-item model.

    Args:
      model: the trained model.
      transform_output: the Transform graph it was trained with.
      path: the directory to write.
    """
    towers = ServedItemTowers(model, transform_output)
    signatures = {ANCHOR_SIGNATURE: towers.anchor_vector, ITEM_SIGNATURE: towers.item_vector}
    towers.save(path, signatures)

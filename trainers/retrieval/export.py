"""The trained towers as one SavedModel that takes raw features; nothing is preprocessed outside it."""

import io
import json
import os
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform.tf_metadata import schema_utils

from schemas import features as f
from trainers.batches import to_dense
from trainers.preprocessing import EncodedFeature
from trainers.retrieval.item_to_item import anchor_source
from trainers.retrieval.model import RetrievalModel

QUERY_SIGNATURE = "query_vector"
QUERY_RAW_SIGNATURE = "query_vector_raw"
ITEM_SIGNATURE = "item_vector"
ANCHOR_SIGNATURE = "anchor_vector"
EXAMPLES = "examples"
VECTORS = "vectors"
EXTRA_DIR = "assets.extra"
WEIGHTS_FILE = "weights.npz"
ORIGIN_FILE = "origin.json"

_TYPES = {schema_pb2.BYTES: tf.string, schema_pb2.INT: tf.int64, schema_pb2.FLOAT: tf.float32}


class _ServedCandidates(tf.Module):
    """The candidate tower behind the Transform graph; what the query is, a subclass says.

    Args:
      model: the trained model.
      transform_output: the Transform graph it was trained with.
    """

    def __init__(self, model: RetrievalModel, transform_output: tft.TFTransformOutput):
        super().__init__()
        self._model = model
        self._transform = transform_output.transform_features_layer()
        schema = transform_output.raw_metadata.schema
        self._query = f.read_features(schema, f.Role.QUERY)
        self._candidate = f.read_features(schema, f.Role.CANDIDATE)
        self._spec = schema_utils.schema_as_feature_spec(schema).feature_spec

    def _encode(self, raw: dict[str, tf.Tensor], features: list[EncodedFeature]) -> dict[str, tf.Tensor]:
        encoded = self._transform(raw)
        return {x.name: to_dense(encoded[x.name], x) for x in features}

    def _parse_items(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return tf.io.parse_example(examples, {x.name: self._spec[x.name] for x in self._candidate})

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, EXAMPLES)])
    def item_vector(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Ids [B] and vectors [B, D] of serialized tf.Examples [B] that hold the item features."""
        raw = self._parse_items(examples)
        vectors = self._model.candidate_tower(self._encode(raw, self._model.candidate_features))
        return {f.ITEM_ID: raw[f.ITEM_ID], VECTORS: vectors}


class ServedTowers(_ServedCandidates):
    """Both towers of a user-to-item model."""

    def _query_vectors(self, raw: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {VECTORS: self._model.query_tower(self._encode(raw, self._model.query_features))}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, EXAMPLES)])
    def query_vector(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Vectors [B, D] of serialized tf.Examples [B] that hold the query features."""
        return self._query_vectors(
            tf.io.parse_example(examples, {x.name: self._spec[x.name] for x in self._query})
        )

    def query_vector_raw(self) -> tf.types.experimental.ConcreteFunction:
        """The same as `query_vector` from one dense tensor per feature, as JSON clients send them.

        A required single value is [B]. Every other feature is [B, n], filled with "" (strings) or the
        type's smallest value (numbers) where an example has fewer than n values, or none for an event of
        its history; see `unpad`.
        """
        signature = {
            x.name: tf.TensorSpec([None] if x.is_scalar else [None, None], _TYPES[x.type], x.name)
            for x in self._query
        }

        @tf.function
        def from_dense(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            return self._query_vectors(unpad(inputs))

        return from_dense.get_concrete_function(**signature)


class ServedItemTowers(_ServedCandidates):
    """Both towers of an item-to-item model."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, EXAMPLES)])
    def anchor_vector(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Ids [B] and, as anchors, vectors [B, D] of serialized tf.Examples [B] with the item features."""
        items = self._parse_items(examples)
        # An item that was just clicked: its columns are a history of one event.
        names = {x.name: x.name.removeprefix(f.HISTORY_PREFIX) for x in self._query}
        history = {name: _as_ragged(items[base]) for name, base in names.items() if base in items}
        encoded = self._transform(history)
        features = self._model.query_features
        anchor = {x.name: encoded[anchor_source(x)].to_tensor(0, shape=[None, 1])[:, 0] for x in features}
        return {f.ITEM_ID: items[f.ITEM_ID], VECTORS: self._model.query_tower(anchor)}


def _as_ragged(values: tf.Tensor | tf.RaggedTensor) -> tf.RaggedTensor:
    """[B] as lists of one."""
    if isinstance(values, tf.RaggedTensor):
        return values
    return tf.RaggedTensor.from_tensor(values[:, tf.newaxis])


def unpad(inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor | tf.RaggedTensor]:
    """Raw features as ingestion writes them, from the dense ones of `ServedTowers.query_vector_raw`.

    Only the filling at the end of a list stands for nothing. The lists of a history end together, with the
    last value that any of them has: what fills them before that is an event's missing value, which ingestion
    writes as "" or 0 so that the lists stay aligned.

    Args:
      inputs: [B] or [B, n] by name.

    Returns:
      [B] as it is, [B, n] as ragged.
    """
    lists = {name: values for name, values in inputs.items() if values.shape.rank == 2}
    lengths = {name: _count_values(values) for name, values in lists.items()}
    history = [name for name in lists if name.startswith(f.HISTORY_PREFIX)]
    if history:
        longest = tf.reduce_max(tf.stack([lengths[name] for name in history]), axis=0)
        # A list shorter than that is not made longer: a client may lack a column altogether.
        lengths.update({name: tf.minimum(longest, tf.shape(lists[name])[1]) for name in history})
    ragged = {
        name: tf.RaggedTensor.from_tensor(_fill_with_zeros(values), lengths=lengths[name])
        for name, values in lists.items()
    }
    return {**inputs, **ragged}


def _is_value(values: tf.Tensor) -> tf.Tensor:
    return values != ("" if values.dtype == tf.string else values.dtype.min)


def _count_values(values: tf.Tensor) -> tf.Tensor:
    """Values of each row [B, n] up to the last that is no filling: [B]."""
    places = tf.range(1, tf.shape(values)[1] + 1)
    last = tf.reduce_max(tf.where(_is_value(values), places, 0), axis=1)
    return tf.maximum(last, 0)  # where n is 0, the largest place is the smallest int


def _fill_with_zeros(values: tf.Tensor) -> tf.Tensor:
    return tf.where(_is_value(values), values, tf.zeros_like(values))


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
    tf.saved_model.save(towers, path, signatures=signatures)
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
    tf.saved_model.save(towers, path, signatures=signatures)

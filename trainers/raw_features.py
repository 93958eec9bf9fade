"""Raw features, as clients and ingestion write them, to what a model takes in."""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform.saved import saved_transform_io_v2
from tensorflow_transform.tf_metadata import schema_utils

from schemas import features as f
from trainers.batches import to_dense
from trainers.preprocessing import EncodedFeature
from trainers.saved_models import save_signatures

EXAMPLES = "examples"  # the input of signatures that take serialized tf.Examples
EXTRA_DIR = "assets.extra"
SCORE_SIGNATURE = "score_examples"  # of what scores pairs, whatever the stage
_TYPES = {schema_pb2.BYTES: tf.string, schema_pb2.INT: tf.int64, schema_pb2.FLOAT: tf.float32}


class ServedModel(tf.Module):
    """What is saved of a Keras model: the functions of a subclass, and the variables they use.

    Args:
      model: the trained model.
      transform_output: the Transform graph it was trained with.
    """

    def __init__(self, model: tf.keras.Model, transform_output: tft.TFTransformOutput):
        super().__init__()
        # Not tracked: TensorFlow would trace every layer of it once more, longer than all the rest takes.
        object.__setattr__(self, "_model", model)
        self._raw = RawFeatures(transform_output)

    def save(self, path: str, signatures: Mapping[str, Any], **functions: Any) -> None:
        """Writes the SavedModel.

        Args:
          path: the directory to write.
          signatures: functions by name, traced or with an input signature.
          functions: others, which the loaded model has as methods.
        """
        traced = {
            name: function.get_concrete_function() if hasattr(function, "get_concrete_function") else function
            for name, function in signatures.items()
        }
        # Not this object, of which each function would be traced and saved a second time.
        saved = tf.Module()
        saved.raw = self._raw
        saved.kept_variables = list(self._model.variables)  # all are made by now
        for name, function in functions.items():
            setattr(saved, name, function)
        save_signatures(saved, path, traced)


class RawFeatures(tf.Module):
    """Parses and encodes raw features inside a served graph.

    Args:
      transform_output: the Transform graph that the model was trained with.
    """

    def __init__(self, transform_output: tft.TFTransformOutput):
        super().__init__()
        # What TFT's Keras layer wraps; the layer itself would be traced once more by every export. What it
        # holds is tracked, as there, so that an export has the vocabularies.
        loader = saved_transform_io_v2.SavedModelLoader(transform_output.transform_savedmodel_dir)
        self._apply = loader.apply_transform_model
        self._tracked = vars(loader)
        self._schema = transform_output.raw_metadata.schema
        self._spec = schema_utils.schema_as_feature_spec(self._schema).feature_spec

    def names(self, *roles: f.Role) -> list[str]:
        """The raw features of the given roles."""
        return [x.name for x in f.read_features(self._schema, *roles)]

    def parse(self, examples: tf.Tensor, *roles: f.Role) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        """The raw features of the given roles from serialized tf.Examples [B]; no other is looked at."""
        return tf.io.parse_example(examples, {name: self._spec[name] for name in self.names(*roles)})

    def encode(
        self, raw: Mapping[str, tf.Tensor | tf.RaggedTensor], features: Sequence[EncodedFeature]
    ) -> dict[str, tf.Tensor]:
        """The encoded features by name, dense; `raw` holds what they are made of."""
        encoded = self._apply(raw)
        return {x.name: to_dense(encoded[x.name], x) for x in features}

    def dense_signature(self, *roles: f.Role) -> dict[str, tf.TensorSpec]:
        """One dense tensor per raw feature of the given roles, as JSON clients send them.

        A required single value is [B]. Every other feature is [B, n], filled with "" (strings) or the
        type's smallest value (numbers) where an example has fewer than n values, or none for an event of
        its history; see `unpad`.
        """
        return {
            x.name: tf.TensorSpec([None] if x.is_scalar else [None, None], _TYPES[x.type], x.name)
            for x in f.read_features(self._schema, *roles)
        }


def unpad(inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor | tf.RaggedTensor]:
    """Raw features as ingestion writes them, from the dense ones of `RawFeatures.dense_signature`.

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

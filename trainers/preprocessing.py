"""The one Transform graph: every raw feature, encoded as its schema entry says; fitted on training rows.

Adding a feature takes its entry in a schema, a cross one in the run's configuration (`transform.crosses`).
A new way of encoding is a function in `_ENCODERS`. Trainers find the results through `encoded_features`.

Index 0 always means unknown or missing: an id outside the vocabulary, an absent value. Trainers teach
it by dropping ids (`id_dropout`), since no training row would show it otherwise.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform import schema_inference

from schemas import features as f

Tensor: TypeAlias = tf.Tensor | tf.RaggedTensor

CROSSES_GROUP = "crosses"
# Beside the features, int64 [B] each; nothing to learn from.
USER_KEY = f"{f.USER_ID}_key"  # tells users apart whom no vocabulary knows
REQUEST_KEY = f"{f.REQUEST_ID}_key"
TIMESTAMP_KEY = f"{f.TIMESTAMP}_ms"
_MAX_AGE_BUCKET = 31  # 2^31 seconds are 68 years
_NUM_TIMESTAMP_BUCKETS = 100


@dataclasses.dataclass(frozen=True)
class EncodedFeature:
    """One output of the Transform graph that a model can take in.

    Attributes:
      name: the output's name; int64 [B], int64 ragged [B, (n)], or float32 [B] where size is 0.
      table: features with the same table share one embedding (an item and the history of items).
      size: indices run from 0 (unknown) to size - 1; 0 for a number that needs no embedding.
      role: the side it belongs to, or who else may see it.
      group: what a model's `disabled_groups` calls it.
      is_list: whether an example has any number of values.
    """

    name: str
    table: str
    size: int
    role: f.Role
    group: str
    is_list: bool


def _dense(values: Tensor, default: Any) -> tf.Tensor:
    """[B] from an optional single value, the default where it is absent."""
    if isinstance(values, tf.RaggedTensor):
        return values.to_tensor(default_value=default, shape=[None, 1])[:, 0]
    return values


def _map_values(values: Tensor, function: Callable[[tf.Tensor], tf.Tensor]) -> Tensor:
    if isinstance(values, tf.RaggedTensor):
        return values.with_flat_values(function(values.flat_values))
    return function(values)


def _flat(values: Tensor) -> tf.Tensor:
    return values.flat_values if isinstance(values, tf.RaggedTensor) else values


def _base_name(name: str) -> str:
    return name.removeprefix(f.HISTORY_PREFIX)


def _lookup(values: Tensor, vocabulary: Any) -> Tensor:
    """Indices from 1; 0 for what the vocabulary lacks."""
    return _map_values(values, lambda x: tft.apply_vocabulary(x, vocabulary, default_value=-1) + 1)


def _encode_vocabulary(feature: f.Feature, inputs: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
    base = _base_name(feature.name)
    if feature.name != base:
        return {}  # encoded with the base feature, whose vocabulary it shares
    shared = [name for name in (base, f.HISTORY_PREFIX + base) if name in inputs]
    values = tf.concat([_flat(inputs[name]) for name in shared], axis=0)
    vocabulary = tft.vocabulary(values, top_k=size or None, vocab_filename=base)
    encoded = {}
    for name in shared:
        is_list = name != base or feature.is_list
        indices = _lookup(inputs[name], vocabulary)
        encoded[f"{name}_index"] = indices if is_list else _dense(indices, 0)
    return encoded


def _encode_text(feature: f.Feature, inputs: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
    lower = tf.strings.lower(_dense(inputs[feature.name], ""), encoding="utf-8")
    text = tf.strings.regex_replace(lower, r"[^\pL\pN]+", " ")
    tokens = tf.strings.split(tf.strings.strip(text))
    vocabulary = tft.vocabulary(tokens.flat_values, top_k=size, vocab_filename=feature.name)
    return {f"{feature.name}_tokens": _lookup(tokens, vocabulary)}


def _encode_hash(feature: f.Feature, inputs: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
    hashed = _map_values(inputs[feature.name], lambda x: tft.hash_strings(x, size - 1) + 1)
    return {f"{feature.name}_hash": hashed if feature.is_list else _dense(hashed, 0)}


def _encode_buckets(feature: f.Feature, inputs: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
    """Quantile buckets from 1; 0 where the value is absent."""
    bucketize = lambda x: tft.bucketize(tf.cast(x, tf.float32), size) + 1  # noqa: E731
    return {f"{feature.name}_bucket": _dense(_map_values(inputs[feature.name], bucketize), 0)}


def _encode_zscore(feature: f.Feature, inputs: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
    """Mean 0, variance 1 over the training rows; 0 where the value is absent."""
    scale = lambda x: tft.scale_to_z_score(tf.cast(x, tf.float32))  # noqa: E731
    return {f"{feature.name}_zscore": _dense(_map_values(inputs[feature.name], scale), 0.0)}


def _encode_log2(feature: f.Feature, inputs: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
    """floor(log2(1 + x)), at most size - 1, from 1; 0 where the value is absent."""
    boundaries = [2.0**power - 1.0 for power in range(1, size)]  # exact, as a logarithm in float32 is not

    def bucketize(x: tf.Tensor) -> tf.Tensor:
        buckets = tf.raw_ops.Bucketize(input=tf.cast(x, tf.float32), boundaries=boundaries)
        return tf.cast(buckets, tf.int64) + 1

    return {f"{feature.name}_log2": _dense(_map_values(inputs[feature.name], bucketize), 0)}


def _encode_log_zscore(feature: f.Feature, inputs: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
    """log(1 + x), with mean 0 and variance 1 over the training rows; 0 where the value is absent."""
    scale = lambda x: tft.scale_to_z_score(tf.math.log1p(tf.cast(x, tf.float32)))  # noqa: E731
    return {f"{feature.name}_log_zscore": _dense(_map_values(inputs[feature.name], scale), 0.0)}


def _encode_calendar(feature: f.Feature, inputs: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
    """Hour of the day, day of the week (UTC), and where in the training period it lies."""
    hours = inputs[feature.name] // 3_600_000
    days = hours // 24
    return {
        f"{feature.name}_hour": hours % 24 + 1,
        f"{feature.name}_weekday": (days + 3) % 7 + 1,  # 1 January 1970 was a Thursday
        f"{feature.name}_bucket": tft.bucketize(tf.cast(hours, tf.float32), _NUM_TIMESTAMP_BUCKETS) + 1,
        f"{feature.name}_zscore": tft.scale_to_z_score(tf.cast(hours, tf.float32)),
    }


def _encode_age(feature: f.Feature, inputs: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
    """How long before the request, as the power of two of seconds, from 1."""
    times = inputs[feature.name]
    request = tf.gather(inputs[f.TIMESTAMP], times.value_rowids())
    seconds = tf.maximum(tf.cast(request - times.flat_values, tf.float32) / 1000.0, 1.0)
    bucket = tf.cast(tf.math.log(seconds) / tf.math.log(2.0), tf.int64)
    return {f"{feature.name}_age": times.with_flat_values(tf.clip_by_value(bucket, 0, _MAX_AGE_BUCKET) + 1)}


_ENCODERS = {
    "vocabulary": _encode_vocabulary,
    "text": _encode_text,
    "hash": _encode_hash,
    "bucketize": _encode_buckets,
    "zscore": _encode_zscore,
    "log2": _encode_log2,
    "log_zscore": _encode_log_zscore,
    "calendar": _encode_calendar,
    "age": _encode_age,
}


def _encode_cross(parts: tuple[str, ...], inputs: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
    """A hash of all values together, from 1 to size - 1; 0 where one is absent."""
    texts = [
        _dense(_map_values(x, lambda x: x if x.dtype == tf.string else tf.strings.as_string(x)), "")
        for x in (inputs[part] for part in parts)
    ]
    is_known = tf.reduce_all(tf.stack([text != "" for text in texts]), axis=0)
    hashed = tft.hash_strings(tf.strings.join(texts, separator="\x1f"), size - 1) + 1
    indices = tf.where(is_known, hashed, tf.zeros_like(hashed))
    # Leaves the size in the transformed schema, where `encoded_features` finds it.
    schema_inference.set_tensor_schema_override(
        indices, tf.constant(0, tf.int64), tf.constant(size - 1, tf.int64)
    )
    return {f.cross_output(parts): indices}


@tf.autograph.experimental.do_not_convert  # there is nothing to convert, and looking takes long
def preprocessing_fn(inputs: dict[str, Tensor], custom_config: dict[str, Any]) -> dict[str, Tensor]:
    """TFX's hook: all features of an impression, encoded; labels pass through.

    Args:
      inputs: the raw features by name.
      custom_config: {"schema": the source's schema, see `schemas.features.load_schema`, "crosses": their
        sizes, see `pipelines.config.TransformConfig`; of features that the schema has}.

    Returns:
      the encoded features by name, see `EncodedFeature`, the labels, `USER_KEY`, `REQUEST_KEY` and
      `TIMESTAMP_KEY`.
    """
    schema = f.load_schema(custom_config["schema"], f.ExampleType.IMPRESSION)
    outputs: dict[str, Tensor] = {
        USER_KEY: tf.strings.to_hash_bucket_fast(inputs[f.USER_ID], 2**62),
        REQUEST_KEY: tf.strings.to_hash_bucket_fast(inputs[f.REQUEST_ID], 2**62),
        TIMESTAMP_KEY: inputs[f.TIMESTAMP],
    }
    for feature in f.read_features(schema):
        for encoding in feature.encodings:
            outputs.update(_ENCODERS[encoding.name](feature, inputs, encoding.size))
        if feature.role is f.Role.LABEL:
            outputs[feature.name] = inputs[feature.name]
    for cross, size in custom_config["crosses"].items():
        outputs.update(_encode_cross(f.split_cross(cross), inputs, size))
    return outputs


def encoded_features(transform_output: tft.TFTransformOutput, *roles: f.Role) -> tuple[EncodedFeature, ...]:
    """What the Transform graph made, with the sizes it found, in the schema's order; crosses come last.

    Args:
      transform_output: the Transform graph.
      *roles: what to return; nothing named is everything.
    """
    features = f.read_features(transform_output.raw_metadata.schema)
    encoded = []
    for feature in features:
        for encoding in feature.encodings:
            for suffix, size in _outputs(feature, encoding, transform_output):
                name = f"{feature.name}_{suffix}"
                table = f"{_base_name(feature.name)}_{suffix}"
                is_list = feature.is_list or suffix == "tokens"
                encoded.append(EncodedFeature(name, table, size, feature.role, feature.group, is_list))
    encoded += _find_crosses(features, {x.name for x in encoded}, transform_output)
    return tuple(x for x in encoded if not roles or x.role in roles)


def _find_crosses(
    features: Sequence[f.Feature], known: set[str], transform_output: tft.TFTransformOutput
) -> list[EncodedFeature]:
    """The crosses among the outputs, in the order of their parts in the schema."""
    place = {feature.name: number for number, feature in enumerate(features)}
    found = []
    for output in transform_output.transformed_metadata.schema.feature:
        if output.name in known or not output.HasField("int_domain"):
            continue
        places = [place[part] for part in f.split_cross_output(output.name)]
        sides = {features[number].role for number in places}
        role = sides.pop() if len(sides) == 1 else f.Role.CROSS
        size = int(output.int_domain.max) + 1
        found.append(
            (places, EncodedFeature(output.name, output.name, size, role, CROSSES_GROUP, is_list=False))
        )
    return [feature for _, feature in sorted(found, key=lambda pair: pair[0])]


def _outputs(
    feature: f.Feature, encoding: f.Encoding, transform_output: tft.TFTransformOutput
) -> list[tuple[str, int]]:
    """The outputs of one encoding of one feature, as (suffix, size)."""
    if encoding.name == "vocabulary":
        return [("index", transform_output.vocabulary_size_by_name(_base_name(feature.name)) + 1)]
    return {
        "text": lambda: [("tokens", transform_output.vocabulary_size_by_name(feature.name) + 1)],
        "hash": lambda: [("hash", encoding.size)],
        "bucketize": lambda: [("bucket", encoding.size + 1)],
        "zscore": lambda: [("zscore", 0)],
        "log2": lambda: [("log2", encoding.size + 1)],
        "log_zscore": lambda: [("log_zscore", 0)],
        "calendar": lambda: [
            ("hour", 25),
            ("weekday", 8),
            ("bucket", _NUM_TIMESTAMP_BUCKETS + 1),
            ("zscore", 0),
        ],
        "age": lambda: [("age", _MAX_AGE_BUCKET + 2)],
    }[encoding.name]()

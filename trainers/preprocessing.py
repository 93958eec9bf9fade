"""The one Transform graph: every raw feature, encoded as its schema entry says; fitted on training rows.

Adding a feature takes its entry in a schema. A new way of encoding is a function in `_ENCODERS`; a new
cross is a line in `CROSSES`. Trainers find the results through `encoded_features`.

Index 0 always means unknown or missing: an id outside the vocabulary, an absent value. Trainers teach
it by dropping ids (`id_dropout`), since no training row would show it otherwise.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import tensorflow as tf
import tensorflow_transform as tft

from schemas import features as f

Tensor: TypeAlias = tf.Tensor | tf.RaggedTensor

# Hashed crosses of single-valued features of one side: (features, buckets). A source that lacks one of
# the features does without the cross.
CROSSES: tuple[tuple[tuple[str, ...], int], ...] = (
    (("gender", "occupation"), 256),
    (("city", "device"), 256),
    (("category", "brand"), 2048),
)
CROSSES_GROUP = "crosses"
USER_KEY = f"{f.USER_ID}_key"  # int64 [B], tells users apart whom no vocabulary knows; nothing to learn from
_MAX_AGE_BUCKET = 31  # 2^31 seconds are 68 years
_NUM_TIMESTAMP_BUCKETS = 100


@dataclasses.dataclass(frozen=True)
class EncodedFeature:
    """One output of the Transform graph that a tower can take in.

    Attributes:
      name: the output's name; int64 [B], int64 ragged [B, (n)], or float32 [B] where size is 0.
      table: features with the same table share one embedding (an item and the history of items).
      size: indices run from 0 (unknown) to size - 1; 0 for a number that needs no embedding.
      role: the side it belongs to.
      group: what `retrieval.disabled_groups` calls it.
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
    "calendar": _encode_calendar,
    "age": _encode_age,
}


def _crosses(features: Mapping[str, f.Feature]) -> list[tuple[str, tuple[str, ...], int]]:
    return [
        ("_x_".join(names), names, size)
        for names, size in CROSSES
        if all(name in features and not features[name].is_list for name in names)
    ]


def preprocessing_fn(inputs: dict[str, Tensor], custom_config: dict[str, Any]) -> dict[str, Tensor]:
    """TFX's hook: all features of an impression, encoded; labels pass through.

    Args:
      inputs: the raw features by name.
      custom_config: {"schema": the source's schema, see `schemas.features.load_schema`}.

    Returns:
      the encoded features by name, see `EncodedFeature`, the labels and `USER_KEY`.
    """
    schema = f.load_schema(custom_config["schema"], f.ExampleType.IMPRESSION)
    features = {feature.name: feature for feature in f.read_features(schema)}
    outputs: dict[str, Tensor] = {USER_KEY: tf.strings.to_hash_bucket_fast(inputs[f.USER_ID], 2**62)}
    for feature in features.values():
        for encoding in feature.encodings:
            outputs.update(_ENCODERS[encoding.name](feature, inputs, encoding.size))
        if feature.role is f.Role.LABEL:
            outputs[feature.name] = inputs[feature.name]
    for name, parts, size in _crosses(features):
        joined = tf.strings.join([_dense(inputs[part], "") for part in parts], separator="\x1f")
        outputs[f"{name}_hash"] = tft.hash_strings(joined, size - 1) + 1
    return outputs


def encoded_features(transform_output: tft.TFTransformOutput) -> tuple[EncodedFeature, ...]:
    """What the Transform graph made, with the sizes it found, in the schema's order."""
    features = {x.name: x for x in f.read_features(transform_output.raw_metadata.schema)}
    encoded = []
    for feature in features.values():
        for encoding in feature.encodings:
            for suffix, size in _outputs(feature, encoding, transform_output):
                name = f"{feature.name}_{suffix}"
                table = f"{_base_name(feature.name)}_{suffix}"
                is_list = feature.is_list or suffix == "tokens"
                encoded.append(EncodedFeature(name, table, size, feature.role, feature.group, is_list))
    for cross, parts, size in _crosses(features):
        name, role = f"{cross}_hash", features[parts[0]].role
        encoded.append(EncodedFeature(name, name, size, role, CROSSES_GROUP, False))
    return tuple(encoded)


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
        "calendar": lambda: [
            ("hour", 25),
            ("weekday", 8),
            ("bucket", _NUM_TIMESTAMP_BUCKETS + 1),
            ("zscore", 0),
        ],
        "age": lambda: [("age", _MAX_AGE_BUCKET + 2)],
    }[encoding.name]()

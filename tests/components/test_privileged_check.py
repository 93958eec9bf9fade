"""The check against SavedModels that do read a privileged feature, in each way, and that do not."""

import re

import pytest
import tensorflow as tf

from components.privileged_check import find_privileged_inputs

DWELL = "dwell_seconds"
EXAMPLES = tf.TensorSpec([None], tf.string, "examples")
SCALAR = tf.io.FixedLenFeature([], tf.float32, 0.0)
RAGGED = tf.io.RaggedFeature(tf.float32)


def parse(examples, name=DWELL, how=SCALAR):
    """A feature of serialized tf.Examples, parsed, as [B]."""
    values = tf.io.parse_example(examples, {"price": SCALAR, name: how})[name]
    return tf.reduce_sum(values, axis=1) if len(values.shape) == 2 else values


@tf.function
def nested(examples):
    @tf.function
    def inner(examples):
        return 2 * parse(examples)

    return tf.cond(tf.size(examples) > 3, lambda: inner(examples), lambda: inner(examples[:1]))


def parse_one(examples):
    defaults = [tf.constant(0.0)]
    parsed = tf.raw_ops.ParseSingleExample(
        **dict(serialized=examples[0], dense_defaults=defaults, dense_keys=[DWELL], dense_shapes=[[]]),
        **dict(num_sparse=0, sparse_keys=[], sparse_types=[]),
    )
    return parsed.dense_values[0]


@tf.function
def parse_sequence(examples):
    context, _ = tf.io.parse_single_sequence_example(examples[0], {DWELL: SCALAR})
    return context[DWELL]


def find(path, module=None, **signatures):
    tf.saved_model.save(module or tf.Module(), str(path / "model"), signatures=signatures)
    return find_privileged_inputs(str(path / "model"), {DWELL, "user_shop_clicks"})


@pytest.mark.parametrize(
    "read",
    [
        nested,
        parse_sequence,
        lambda x: parse(x, how=SCALAR),
        lambda x: parse(x, how=RAGGED),
        lambda x: tf.sparse.to_dense(tf.io.parse_example(x, {DWELL: tf.io.VarLenFeature(tf.float32)})[DWELL]),
        parse_one,
        lambda x: tf.map_fn(parse_one, x[:, tf.newaxis], tf.float32),
        lambda x: tf.where(x == "", 0.0, parse(x)),
    ],
)
def test_a_privileged_feature_that_is_parsed_is_found(tmp_path, read):
    score = tf.function(lambda examples: {"y": read(examples)}, input_signature=[EXAMPLES])
    clean = tf.function(lambda examples: {"y": parse(examples, "title")}, input_signature=[EXAMPLES])
    assert find(tmp_path, score=score, clean=clean) == [f"score: {DWELL}"]


def test_a_privileged_feature_that_is_an_input_is_found_even_if_unused(tmp_path):
    specs = [tf.TensorSpec([None], tf.float32, name) for name in ("price", DWELL)]
    raw = tf.function(lambda price, dwell_seconds: {"y": 2 * price}, input_signature=specs)
    assert find(tmp_path, raw=raw) == [f"raw: {DWELL}"]


class Clean(tf.Module):
    """Knows the name as a word of its vocabulary, and parses the feature where nothing served does."""

    def __init__(self, vocabulary):
        super().__init__()
        self._table = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(str(vocabulary), tf.string, 0, tf.int64, 1, delimiter=" "), -1
        )

    @tf.function(input_signature=[EXAMPLES])
    def serve(self, examples):
        title = tf.io.parse_example(examples, {"title": tf.io.FixedLenFeature([], tf.string, DWELL)})["title"]
        parse(examples)  # its result goes nowhere
        return {"y": self._table.lookup(title), "z": title == DWELL}

    @tf.function(input_signature=[EXAMPLES])
    def unused(self, examples):
        return parse(examples)


def test_a_name_that_no_signature_reads_is_none(tmp_path):
    (tmp_path / "words").write_text(f"{DWELL} 1\n")
    module = Clean(tmp_path / "words")
    assert find(tmp_path, module, serve=module.serve) == []
    content = (tmp_path / "model" / "saved_model.pb").read_bytes()
    assert content.count(DWELL.encode()) > 2, "else the line above could not fail"


def test_a_parser_whose_features_cannot_be_told_is_refused(tmp_path):
    keys = tf.Variable([DWELL])

    @tf.function(input_signature=[EXAMPLES])
    def score(examples):
        parsed = tf.raw_ops.ParseExampleV2(
            serialized=examples,
            names=[],
            sparse_keys=[],
            dense_keys=keys,
            ragged_keys=[],
            dense_defaults=[tf.constant(0.0)],
            num_sparse=0,
            sparse_types=[],
            ragged_value_types=[],
            ragged_split_types=[],
            dense_shapes=[[]],
        )
        return {"y": parsed.dense_values[0]}

    module = tf.Module()
    module.keys = keys
    with pytest.raises(ValueError, match=re.escape("which features it parses is no constant")):
        find(tmp_path, module, score=score)

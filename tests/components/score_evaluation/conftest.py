"""Toy scorers that give what an example says of itself."""

import numpy as np
import pytest
import tensorflow as tf

from components.score_evaluation.scoring import Scorer

SIGNATURE = "score_examples"


class ToyScorer(tf.Module):
    """The probabilities stand in the features `<name>_<task>` of an example."""

    def __init__(self, name, tasks):
        super().__init__()
        self._features = {task: f"{name}_{task}" for task in tasks}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def score_examples(self, examples):
        spec = {feature: tf.io.FixedLenFeature([], tf.float32) for feature in self._features.values()}
        row = tf.io.parse_example(examples, spec)
        return {task: row[feature] for task, feature in self._features.items()}


@pytest.fixture(scope="session")
def make_scorer(tmp_path_factory):
    def make(name, *tasks):
        path = str(tmp_path_factory.mktemp("toys") / name)
        toy = ToyScorer(name, tasks)
        tf.saved_model.save(toy, path, signatures={SIGNATURE: toy.score_examples})
        return Scorer(path, SIGNATURE, tasks)

    return make


@pytest.fixture(scope="session")
def encode():
    """Columns [n] as serialized tf.Examples [n]; a list or a string is of bytes, "" is missing."""

    def to_feature(value):
        if isinstance(value, str | list):
            values = [value] if isinstance(value, str) else value
            return tf.train.Feature(
                bytes_list=tf.train.BytesList(value=[x.encode() for x in values if x != ""])
            )
        if isinstance(value, float | np.floating):
            return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    def run(columns):
        rows = zip(*columns.values(), strict=True)
        return np.array(
            [
                tf.train.Example(
                    features=tf.train.Features(
                        feature={name: to_feature(value) for name, value in zip(columns, row, strict=True)}
                    )
                ).SerializeToString()
                for row in rows
            ],
            object,
        )

    return run

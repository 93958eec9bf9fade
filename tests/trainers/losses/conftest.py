import numpy as np
import pytest
import tensorflow as tf

from trainers.losses.distillation import Signals


@pytest.fixture
def make_signals():
    """Builds `Signals` of whatever is given: logits as [N] or [N, K], everything else has a default."""

    def make(student, teacher, **given):
        student, teacher = (
            tf.convert_to_tensor(np.reshape(x, [len(x), -1]), tf.float32) if not tf.is_tensor(x) else x
            for x in (student, teacher)
        )
        defaults = {
            "soft_mask": tf.ones_like(student),
            "request": tf.zeros(tf.shape(student)[0], tf.int32),
        }
        for name, values in given.items():
            dtype = tf.int32 if name == "request" else tf.float32
            given[name] = tf.convert_to_tensor(values, dtype)
        return Signals(student, teacher, **{**defaults, **given})

    return make


@pytest.fixture
def make_random_signals(make_signals):
    """Builds `Signals` of requests of the given sizes, with a mask and hidden vectors of unequal width."""

    def make(sizes, seed=0, num_tasks=2):
        random = np.random.default_rng(seed)
        shape = (sum(sizes), num_tasks)
        return make_signals(
            random.normal(size=shape),
            random.normal(size=shape),
            soft_mask=random.random(shape) < 0.8,
            request=np.repeat(np.arange(len(sizes)), sizes),
            student_hidden=random.normal(size=(shape[0], 3)),
            teacher_hidden=random.normal(size=(shape[0], 5)),
        )

    return make

"""Two replicas learn what one does from the same batches."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
# Devices are made before TensorFlow starts: in a process of its own.
PROGRAM = """
import json, runpy, sys
from pipelines import tensorflow_setup
import tensorflow as tf
cpu, = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from trainers.ranking import train
from trainers.ranking.config import RankerConfig
if sys.argv[1] == "2":
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    train.find_strategy = lambda: strategy
config = RankerConfig(
    embedding_dim=8, units=12, attention_dims=(16,), head_dims=(32,), product_dim=4, batch_size=256,
    max_epochs=2, patience_epochs=2, learning_rate=1e-2, weight_averaging=0.9, auxiliary_weight=0.0,
    dropout=0.0, id_dropout=0.0, query_dropout=0.0, event_dropout=0.0,
)
requests = runpy.run_path(sys.argv[2])["_make_training"](1000, 1)
print(json.dumps(train.train_ranker(config, requests).history))
"""


def train(replicas):
    requests = str(Path(__file__).with_name("conftest.py"))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(replicas), requests],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.slow
def test_two_replicas_learn_what_one_does():
    one, two = train(1), train(2)
    assert len(one["val_loss"]) == 2
    assert one["val_loss"][1] < one["val_loss"][0]
    # Sums of floats in another order, which 40 steps carry on.
    assert two["val_loss"] == pytest.approx(one["val_loss"], rel=1e-4)

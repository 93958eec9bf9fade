"""The curves of a Trainer, read from the TensorBoard event files that its callback wrote."""

import dataclasses
import os
from collections.abc import Callable, Mapping

import tensorflow as tf

from trainers.retrieval import selection as retrieval_selection
from trainers.scorers import selection as scorer_selection

Curve = dict[int, float]  # by epoch, from 0, in order
Curves = dict[str, Curve]  # by the names that Keras' history has: "loss", "val_recall"

_FOLDERS = {"train": "", "validation": "val_"}
_EPOCH_TAG = "epoch_"


@dataclasses.dataclass(frozen=True)
class Stage:
    """What is drawn of the trainers of a stage.

    Attributes:
      loss: the training loss, as a mean over the epoch.
      figure: what the epoch was chosen by, on the evaluation split.
      label: how the figure is called.
      best: which of its values is kept; the first of equals.
    """

    loss: str
    figure: str
    label: str
    best: Callable[..., int]

    def find_kept_epoch(self, curves: Mapping[str, Curve]) -> int | None:
        """The epoch whose weights were kept, from 0; None where there is no figure."""
        figure = curves.get(self.figure)
        return self.best(figure, key=figure.__getitem__) if figure else None


# "loss" of the two towers is the last batch's.
RETRIEVAL = Stage("mean_loss", retrieval_selection.METRIC, "recall", max)
SCORER = Stage("loss", scorer_selection.METRIC, "log loss", min)
SCORER_AUC = scorer_selection.AUC


def read_curves(model_run_dir: str) -> Curves:
    """All that was logged once an epoch; empty where nothing was.

    Args:
      model_run_dir: what `tf.keras.callbacks.TensorBoard` was given.

    Raises:
      ValueError: if an event file is damaged.
    """
    curves: Curves = {}
    for folder, prefix in _FOLDERS.items():
        for path in sorted(tf.io.gfile.glob(os.path.join(model_run_dir, folder, "events.out.tfevents.*"))):
            for tag, epoch, value in _read_scalars(path):
                if tag.startswith(_EPOCH_TAG):
                    curves.setdefault(prefix + tag.removeprefix(_EPOCH_TAG), {})[epoch] = value
    return {name: dict(sorted(curve.items())) for name, curve in curves.items()}


def _read_scalars(path: str) -> list[tuple[str, int, float]]:
    """Tag, step and value of each scalar in an event file."""
    try:
        records = list(tf.data.TFRecordDataset(path).as_numpy_iterator())
    except tf.errors.DataLossError as error:
        raise ValueError(
            f"{path}: damaged event file ({error.message}). Delete the folder of that run: "
            "the next `winnow run` trains again."
        ) from error
    events = map(tf.compat.v1.Event.FromString, records)
    return [
        (value.tag, event.step, float(tf.make_ndarray(value.tensor)))
        for event in events
        for value in event.summary.value
        if value.HasField("tensor") and value.metadata.plugin_data.plugin_name == "scalars"
    ]

"""Sends what TFX, Beam and TensorFlow log to a file, away from the terminal."""

import datetime as dt
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def write_log_to(folder: Path) -> Iterator[Path]:
    """Logs to a new file in the folder, named after the time, while the block runs.

    Yields:
      the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{dt.datetime.now():%Y-%m-%d_%H%M%S}.log"
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        from pipelines import tensorflow_setup  # noqa: F401, I001  (before TensorFlow)
        import absl.logging
        import tensorflow as tf

        # Both print to stderr by themselves; the root's handler has it now.
        absl.logging.set_verbosity(absl.logging.INFO)
        absl.logging.get_absl_logger().handlers = []
        root.handlers = [handler]
        tf.get_logger().handlers = []
        tf.get_logger().propagate = True
        yield path
    finally:
        logging.captureWarnings(False)
        root.handlers, root.level = before
        handler.close()

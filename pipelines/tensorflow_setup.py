"""What must be set before TensorFlow is imported; importing this module sets it."""

import os
import warnings

# TFRS, TFMA and TFX's Keras paths need Keras 2.
os.environ["TF_USE_LEGACY_KERAS"] = "1"
# TensorFlow's C++ side reports missing GPU libraries as errors on a machine that has no GPU.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Newer Google packages announce the end of Python 3.10; TFX 1.16 needs it.
warnings.filterwarnings("ignore", message=".*non-supported Python version.*", category=FutureWarning)

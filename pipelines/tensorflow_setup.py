"""What must be set before TensorFlow is imported; importing this module sets it."""

import os
import warnings

# TFRS, TFMA and TFX's Keras paths need Keras 2.
os.environ["TF_USE_LEGACY_KERAS"] = "1"
# TensorFlow's C++ side reports missing GPU libraries as errors on a machine that has no GPU.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Google's packages announce on import what they will drop next: Python 3.10, which TFX 1.16 needs, and the
# versions of grpc and storage that go with it.
warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.")

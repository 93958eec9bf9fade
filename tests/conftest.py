from pipelines import tensorflow_setup  # noqa: F401  (before anything imports TensorFlow)

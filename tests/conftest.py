from hypothesis import settings

from pipelines import tensorflow_setup  # noqa: F401  (before anything imports TensorFlow)

# A busy machine is no reason to fail.
settings.register_profile("winnow", deadline=None)
settings.load_profile("winnow")

from hypothesis import settings

from pipelines import tensorflow_setup  # noqa: F401  (before anything imports TensorFlow)

# A busy machine is no reason to fail.
settings.register_profile("winnow", deadline=None)
settings.load_profile("winnow")

# The longest go first, so that no process is left with one of them at the end. They share a root: before what
# leaves other versions and equal ones comes what counts them.
_FIRST = ("test_run_end_to_end", "test_sabotage", "test_crash")


def pytest_collection_modifyitems(items):
    """Puts the files in the order in which processes take them."""
    items.sort(key=lambda item: _FIRST.index(item.path.stem) if item.path.stem in _FIRST else len(_FIRST))

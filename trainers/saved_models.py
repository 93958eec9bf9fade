"""How SavedModels are written that hold loaded ones, as every model here holds its Transform graph."""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf


def save_signatures(
    module: tf.Module, path: str, signatures: Mapping[str, Any], namespaces: tuple[str, ...] = ()
) -> None:
    """Writes a SavedModel for inference: its signatures, without what a gradient would need.

    Args:
      module: what the signatures use; its own tf.functions are saved too.
      path: the directory to write.
      signatures: functions by name, traced or with an input signature.
      namespaces: of custom ops.
    """
    for part in tf.train.TrackableView(module).descendants():
        if isinstance(part, tf.saved_model.experimental.TrackableResource):
            _flatten(part)
    options = tf.saved_model.SaveOptions(
        namespace_whitelist=list(namespaces), experimental_custom_gradients=False
    )
    tf.saved_model.save(module, path, signatures=dict(signatures), options=options)


def _flatten(table: Any) -> None:
    """Lets a lookup table that was loaded be saved as if it were new.

    TensorFlow saves of it functions that call those which it was loaded with, six more for each table and
    each time that it is loaded and saved, which in a funnel is three times. They are small, but so many that
    they would be half of what a funnel takes to load.
    """
    for name in ("_create_resource", "_initialize"):
        restored = getattr(table, name)
        if hasattr(restored, "concrete_functions"):
            (concrete,) = restored.concrete_functions
            setattr(table, name, _inline(concrete))
            vars(table).pop("_destroy_resource", None)  # does nothing, as does the default


def _inline(concrete: tf.types.experimental.ConcreteFunction) -> Callable[[], Any]:
    """A Python function that adds to the graph which is traced what the concrete function would do."""
    inner = concrete.graph
    graph_def, outputs = inner.as_graph_def(), [output.name for output in inner.outputs]

    def add_operations() -> Any:
        graph = tf.compat.v1.get_default_graph()
        given = {placeholder.name: graph.capture(value) for value, placeholder in inner.captures}
        return tf.graph_util.import_graph_def(graph_def, input_map=given, return_elements=outputs, name="")[0]

    return add_operations

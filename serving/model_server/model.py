"""One version of a model in memory: what its signatures take, and what they answer."""

import dataclasses
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from scann.scann_ops.py import scann_ops  # noqa: F401  (registers the op of the scann flavour)
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from serving.model_server.request_checks import RequestError, describe, invalid, show

# What TensorFlow says of a request it cannot work on; of anything else the server is the cause.
_CODES = {
    tf.errors.INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    tf.errors.DATA_LOSS: grpc.StatusCode.INVALID_ARGUMENT,
    tf.errors.OUT_OF_RANGE: grpc.StatusCode.INVALID_ARGUMENT,
    tf.errors.RESOURCE_EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    tf.errors.UNIMPLEMENTED: grpc.StatusCode.UNIMPLEMENTED,
}
# What TensorFlow puts around what it has to say: its heading, and places in the graph.
_GRAPH_PLACES = re.compile(
    r"\{\{.*?\}\}|\n\t \[\[.*|\[Op:.*|\A.*\(most recent call last\):\n(<.*>\n)?|\AGraph execution error:\n\n",
    re.DOTALL,
)
_CUT_QUOTE = re.compile(r"(, value: '[^']*)\Z")  # it ends a quoted value at its first zero byte


@dataclasses.dataclass(frozen=True)
class Signature:
    """One function of a model.

    Attributes:
      name: of the function.
      inputs: what it takes, by name.
      outputs: the names of what it returns.
      function: the function, of one tensor per input.
    """

    name: str
    inputs: Mapping[str, tf.TensorSpec]
    outputs: tuple[str, ...]
    function: Any


class LoadedModel:
    """A SavedModel.

    Args:
      path: its directory.

    Attributes:
      signature_defs: what clients are told of the signatures.

    Raises:
      Exception: whatever TensorFlow raises for a SavedModel that is damaged.
    """

    def __init__(self, path: Path):
        self.signature_defs = _read_signature_defs(path)
        self._model = tf.saved_model.load(str(path))
        self._signatures = {
            name: Signature(
                name,
                function.structured_input_signature[1],
                tuple(function.structured_outputs),
                function,
            )
            for name, function in self._model.signatures.items()
        }

    def signature(self, name: str) -> Signature:
        """The signature of a name; "" is the default one.

        Raises:
          RequestError: if there is none; it names those there are.
        """
        name = name or tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
        if name not in self._signatures:
            raise invalid(f"unknown signature {show(name)}; expected {', '.join(self._signatures)}")
        return self._signatures[name]

    def predict(
        self, signature: Signature, inputs: Mapping[str, np.ndarray], wanted: Collection[str] = ()
    ) -> dict[str, np.ndarray]:
        """Calls a signature.

        Args:
          signature: one of this model's.
          inputs: what it takes, already checked; strings as an object array of bytes.
          wanted: the outputs to return, all where empty.

        Raises:
          RequestError: if the model cannot work on the inputs, or fails.
        """
        if not set(wanted) <= set(signature.outputs):
            unknown = sorted(set(wanted) - set(signature.outputs))[0]
            raise invalid(f"unknown output {show(unknown)}; expected some of {', '.join(signature.outputs)}")
        try:
            tensors = {name: tf.constant(inputs[name], spec.dtype) for name, spec in signature.inputs.items()}
            outputs = signature.function(**tensors)
            return {name: outputs[name].numpy() for name in wanted or signature.outputs}
        except tf.errors.OpError as error:
            raise self._failure(signature, inputs, error.error_code, error.message) from error
        except UnicodeDecodeError as error:  # TensorFlow quotes what it was given, in whatever encoding
            message = error.object.decode(errors="backslashreplace")
            raise self._failure(signature, inputs, tf.errors.INVALID_ARGUMENT, message) from error

    @staticmethod
    def _failure(
        signature: Signature, inputs: Mapping[str, np.ndarray], code: int, message: str
    ) -> RequestError:
        came = (
            f"{name} {describe(spec.dtype, inputs[name].shape)}" for name, spec in signature.inputs.items()
        )
        reason = _CUT_QUOTE.sub(r"\1...'", _GRAPH_PLACES.sub("", message).strip())
        return RequestError(
            _CODES.get(code, grpc.StatusCode.INTERNAL),
            f"signature {signature.name!r}: {reason}; got {', '.join(came)}",
        )

    def warm_up(self) -> None:
        """Calls every signature once, so that no client waits for TensorFlow to optimise the graph.

        Raises:
          RequestError: if one fails, other than by refusing the made-up inputs.
        """
        for signature in self._signatures.values():
            try:
                self.predict(signature, {name: _make_input(spec) for name, spec in signature.inputs.items()})
            except RequestError as error:
                if error.code is not grpc.StatusCode.INVALID_ARGUMENT:
                    raise


def _make_input(spec: tf.TensorSpec) -> np.ndarray:
    """One example of zeros or empty strings."""
    shape = [size or 1 for size in spec.shape.as_list()] if spec.shape.rank is not None else []
    if spec.dtype == tf.string:
        return np.full(shape, b"", object)
    return np.zeros(shape, spec.dtype.as_numpy_dtype)


def _read_signature_defs(path: Path) -> dict[str, meta_graph_pb2.SignatureDef]:
    content = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    for graph in content.meta_graphs:
        if tf.saved_model.SERVING in graph.meta_info_def.tags:
            return dict(graph.signature_def)
    raise ValueError(f"{path}: no graph is tagged {tf.saved_model.SERVING!r}")

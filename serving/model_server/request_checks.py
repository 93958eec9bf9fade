"""What is asked of every request, whatever protocol it came by."""

from collections.abc import Iterable, Sequence

import grpc
import tensorflow as tf

MAX_REQUEST_BYTES = 64 * 2**20  # of a request, and of each tensor it stands for
_MAX_MESSAGE = 500  # characters: gRPC sends it in a header, and clients bound those
_MAX_SHOWN = 40


class RequestError(Exception):
    """Why a request is refused.

    Attributes:
      code: the status; gRPC's are TensorFlow's own.
    """

    def __init__(self, code: grpc.StatusCode, message: str):
        super().__init__(message if len(message) <= _MAX_MESSAGE else f"{message[:_MAX_MESSAGE]}...")
        self.code = code


def invalid(message: str) -> RequestError:
    """A request that no state of the server would make right."""
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)


def unsupported(what: str, dtype: tf.DType) -> RequestError:
    """A type that neither protocol of this server has a form for."""
    return RequestError(grpc.StatusCode.UNIMPLEMENTED, f"{what}: tensors of {dtype.name} are not served")


def show(value: object) -> str:
    """A value of a request, for a message: short, and in ASCII."""
    text = ascii(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def describe(dtype: tf.DType, shape: Sequence[int | None]) -> str:
    """A tensor, for a message, e.g. `int64 [?, 3]`."""
    return f"{dtype.name} [{', '.join('?' if size is None else str(size) for size in shape)}]"


def describe_spec(spec: tf.TensorSpec) -> str:
    """What an input takes, for a message."""
    if spec.shape.rank is None:
        return f"{spec.dtype.name} of any shape"
    return describe(spec.dtype, spec.shape.as_list())


def check_names(given: Iterable[str], expected: Iterable[str], what: str) -> None:
    """Refuses missing and unknown names.

    Raises:
      RequestError: naming them, and all that are expected.
    """
    given, expected = set(given), set(expected)
    if given != expected:
        parts = [
            f"{problem} {', '.join(map(show, sorted(names)[:10]))}"
            for problem, names in (("missing", expected - given), ("unknown", given - expected))
            if names
        ]
        raise invalid(f"{what}: {', '.join(parts)}; expected {', '.join(sorted(expected))}")


def check_tensor(name: str, spec: tf.TensorSpec, dtype: tf.DType, shape: Sequence[int]) -> None:
    """Refuses a tensor that the signature does not take, before anything of its size is allocated.

    Raises:
      RequestError: naming the input, what it takes and what came.
    """
    came = describe(dtype, shape)
    if any(size < 0 for size in shape):
        raise invalid(f"input {name!r}: negative dimension in {came}")
    if dtype != spec.dtype or not spec.shape.is_compatible_with(_as_shape(shape)):
        raise invalid(f"input {name!r}: expected {describe_spec(spec)}, got {came}")
    num_bytes = 8 if dtype == tf.string else dtype.size
    for size in shape:
        num_bytes *= max(size, 1)
    if num_bytes > MAX_REQUEST_BYTES:
        raise invalid(f"input {name!r}: {came} has more than {MAX_REQUEST_BYTES:,} bytes")


def _as_shape(shape: Sequence[int]) -> tf.TensorShape:
    """A shape to compare; sizes that no tensor has, and TensorFlow does not take, are equal to none."""
    return tf.TensorShape([min(size, 2**62) for size in shape])

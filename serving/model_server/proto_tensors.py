"""TensorProtos to arrays and back."""

import math

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from serving.model_server.request_checks import check_tensor, invalid, unsupported

# Where a TensorProto holds the values of each type; other types are not served.
FIELDS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int8: "int_val",
    tf.int16: "int_val",
    tf.int32: "int_val",
    tf.int64: "int64_val",
    tf.uint8: "int_val",
    tf.uint32: "uint32_val",
    tf.uint64: "uint64_val",
    tf.bool: "bool_val",
    tf.string: "string_val",
}


def array_from_proto(name: str, proto: tensor_pb2.TensorProto, spec: tf.TensorSpec) -> np.ndarray:
    """The values of an input; strings as an object array of bytes.

    Args:
      name: the input's.
      proto: as it came.
      spec: what the signature takes.

    Raises:
      RequestError: if the tensor is not one that the input takes, or contradicts itself.
    """
    if spec.dtype not in FIELDS:
        raise unsupported(f"input {name!r}", spec.dtype)
    if proto.dtype != spec.dtype.as_datatype_enum:
        known = proto.dtype in types_pb2.DataType.values()
        came = types_pb2.DataType.Name(proto.dtype) if known else f"the unknown type {proto.dtype}"
        raise invalid(f"input {name!r}: expected {spec.dtype.name}, got {came}")
    if proto.tensor_shape.unknown_rank:
        raise invalid(f"input {name!r}: a tensor of unknown rank")
    shape = [dim.size for dim in proto.tensor_shape.dim]
    check_tensor(name, spec, spec.dtype, shape)
    num_values = math.prod(shape)
    if proto.tensor_content:
        if spec.dtype == tf.string:
            raise invalid(f"input {name!r}: expected strings in string_val, got tensor_content")
        expected = num_values * spec.dtype.size
        if len(proto.tensor_content) != expected:
            raise invalid(
                f"input {name!r}: expected {expected} bytes of tensor_content for the shape {shape}, "
                f"got {len(proto.tensor_content)}"
            )
    else:
        # Fewer values are TensorFlow's own shorthand: the last one is repeated, none stands for zeros.
        num_given = len(getattr(proto, FIELDS[spec.dtype]))
        if num_given > num_values:
            raise invalid(
                f"input {name!r}: expected {num_values} values for the shape {shape}, got {num_given} "
                f"in {FIELDS[spec.dtype]}"
            )
    return tf.make_ndarray(proto)


def proto_from_array(name: str, array: np.ndarray) -> tensor_pb2.TensorProto:
    """An output; the values in the typed field, where TensorFlow Serving puts them and clients look.

    Raises:
      RequestError: if its type is not served.
    """
    dtype = tf.string if array.dtype == object else tf.as_dtype(array.dtype)
    if dtype not in FIELDS:
        raise unsupported(f"output {name!r}", dtype)
    proto = tensor_pb2.TensorProto(
        dtype=dtype.as_datatype_enum, tensor_shape=tf.TensorShape(array.shape).as_proto()
    )
    getattr(proto, FIELDS[dtype]).extend(array.ravel().tolist())
    return proto

"""The JSON of TensorFlow Serving's REST API to arrays and back.

Rows: {"instances": [{input: value, ...}, ...]} is answered with {"predictions": [{output: value, ...}, ...]}.
Columns: {"inputs": {input: [value, ...], ...}} with {"outputs": {output: [value, ...], ...}}.
A single input or output may go without its name; {"b64": "..."} is a string of any bytes.
"""

import base64
import binascii
import dataclasses
import itertools
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from serving.model_server.model import Signature
from serving.model_server.proto_tensors import FIELDS
from serving.model_server.request_checks import (
    check_names,
    check_tensor,
    describe_spec,
    invalid,
    show,
    unsupported,
)

_BASE64 = "b64"
_BYTES_SUFFIX = "_bytes"  # of the name of an output that holds no text
_SIGNATURE, _ROWS, _COLUMNS = "signature_name", "instances", "inputs"
_PREDICTIONS, _OUTPUTS = "predictions", "outputs"
_KINDS = {dict: "an object", list: "a list", type(None): "null"}
_JSON_TYPES: dict[str, set[type]] = {"i": {int}, "u": {int}, "f": {int, float}, "b": {bool}, "O": {str, dict}}


@dataclasses.dataclass(frozen=True)
class JsonRequest:
    """A request's parts.

    Attributes:
      signature_name: "" is the default.
      is_row_format: whether the values are instances, one by one, or whole inputs.
      values: the instances or the inputs.
    """

    signature_name: str
    is_row_format: bool
    values: Any


def parse_request(body: bytes) -> JsonRequest:
    """Reads the body of a request.

    Raises:
      RequestError: if it is not JSON, or lacks a part.
    """
    try:
        content = json.loads(body)
    except RecursionError as error:
        raise invalid("the body is nested too deeply") from error
    except ValueError as error:  # of JSON, of UTF-8, of numbers with thousands of digits
        raise invalid(f"the body is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise invalid(f"expected a JSON object, got {_kind(content)}")
    name = content.get(_SIGNATURE, "")
    if not isinstance(name, str):
        raise invalid(f"{_SIGNATURE}: expected a string, got {_kind(name)}")
    if (_ROWS in content) == (_COLUMNS in content):
        raise invalid(f"expected either {_ROWS!r} or {_COLUMNS!r} in the JSON object")
    is_row_format = _ROWS in content
    return JsonRequest(name, is_row_format, content[_ROWS if is_row_format else _COLUMNS])


def read_inputs(request: JsonRequest, signature: Signature) -> dict[str, np.ndarray]:
    """The inputs as arrays; strings as object arrays of bytes.

    Raises:
      RequestError: if they are not what the signature takes.
    """
    columns = request.values
    if request.is_row_format:
        columns = _transpose(request.values, signature)
    elif not _is_named(columns):
        columns = {_only_input(signature, _COLUMNS): columns}
    check_names(columns, signature.inputs, f"inputs of {signature.name!r}")
    return {name: _read_array(name, columns[name], spec) for name, spec in signature.inputs.items()}


def write_outputs(outputs: Mapping[str, np.ndarray], is_row_format: bool) -> bytes:
    """The body of the answer, in the format of the request.

    Raises:
      RequestError: if the outputs are no rows, though the request was made of rows.
    """
    if is_row_format and len({array.shape[:1] for array in outputs.values()} - {()}) != 1:
        raise invalid(f"the outputs differ in their first dimension; ask with {_COLUMNS!r}")
    values = {name: _write_array(name, array) for name, array in outputs.items()}
    if len(values) == 1:
        (answer,) = values.values()
    elif is_row_format:
        answer = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    else:
        answer = values
    return json.dumps({_PREDICTIONS if is_row_format else _OUTPUTS: answer}, ensure_ascii=False).encode()


def _transpose(instances: Any, signature: Signature) -> dict[str, list[Any]]:
    """The inputs of instances, by name."""
    if not isinstance(instances, list) or not instances:
        raise invalid(f"{_ROWS}: expected a list of one instance or more, got {show(instances)}")
    are_named = set(map(_is_named, instances))
    if are_named == {False}:
        return {_only_input(signature, _ROWS): instances}
    if are_named != {True}:
        raise invalid(f"{_ROWS}: expected objects alone or values alone, got both")
    for names in set(map(frozenset, instances)):
        check_names(names, signature.inputs, f"{_ROWS} for {signature.name!r}")
    return {name: [instance[name] for instance in instances] for name in signature.inputs}


def _only_input(signature: Signature, key: str) -> str:
    if len(signature.inputs) != 1:
        names = ", ".join(sorted(signature.inputs))
        raise invalid(f"{key}: expected objects that name the inputs of {signature.name!r}: {names}")
    return next(iter(signature.inputs))


def _is_named(value: Any) -> bool:
    """Whether a value holds inputs by name."""
    return isinstance(value, dict) and not (len(value) == 1 and isinstance(value.get(_BASE64), str))


def _read_array(name: str, value: Any, spec: tf.TensorSpec) -> np.ndarray:
    shape: list[int] = []
    flat = [value]
    while flat and set(map(type, flat)) == {list}:
        sizes = set(map(len, flat))
        if len(sizes) > 1:
            raise invalid(
                f"input {name!r}: expected {describe_spec(spec)}, got lists of {min(sizes)} to {max(sizes)} "
                "values; fill the shorter ones up with the value that stands for none"
            )
        shape.append(sizes.pop())
        flat = list(itertools.chain.from_iterable(flat))
    array = _convert(name, flat, spec)
    check_tensor(name, spec, spec.dtype, shape)
    return array.reshape(shape)


def _convert(name: str, flat: list[Any], spec: tf.TensorSpec) -> np.ndarray:
    """JSON values as an array of an input's type; nothing is rounded but fractions."""
    dtype = spec.dtype
    if dtype not in FIELDS:
        raise unsupported(f"input {name!r}", dtype)
    kinds = _JSON_TYPES[np.dtype(dtype.as_numpy_dtype).kind]
    if not set(map(type, flat)) <= kinds:
        wrong = next(value for value in flat if type(value) not in kinds)
        raise invalid(f"input {name!r}: expected {describe_spec(spec)}, got {_kind(wrong)} in it")
    if dtype == tf.string:
        return _read_strings(name, flat)
    if dtype == tf.bool:
        return np.array(flat, bool)
    # Integers that a float holds exactly, as TensorFlow Serving has it.
    exact = 2 ** (np.finfo(dtype.as_numpy_dtype).nmant + 1) - 1 if dtype.is_floating else None
    low, high = (-exact, exact) if exact else (dtype.min, dtype.max)
    wrong = next((value for value in flat if type(value) is int and not low <= value <= high), None)
    if wrong is not None:
        raise invalid(f"input {name!r}: {show(wrong)} does not fit into {dtype.name}")
    array = np.array(flat, np.float64 if dtype.is_floating else dtype.as_numpy_dtype)
    if dtype.is_floating and (np.isfinite(array) & (np.abs(array) > dtype.max)).any():
        raise invalid(f"input {name!r}: {np.nanmax(np.abs(array))} does not fit into {dtype.name}")
    return array.astype(dtype.as_numpy_dtype)


def _read_strings(name: str, flat: list[Any]) -> np.ndarray:
    array = np.empty(len(flat), object)  # NumPy's own strings would lose zeros at their end
    try:
        array[:] = [
            value.encode() if isinstance(value, str) else base64.b64decode(value[_BASE64], validate=True)
            for value in flat
        ]
    except UnicodeEncodeError as error:
        raise invalid(f"input {name!r}: {show(error.object)} is no text: {error.reason}") from error
    except (KeyError, TypeError, binascii.Error, ValueError) as error:
        raise invalid(f'input {name!r}: expected {{"b64": "..."}} for an object; {error!r}') from error
    return array


def _write_array(name: str, array: np.ndarray) -> Any:
    """Nested lists of what JSON has."""
    if array.dtype == object:
        return _write_strings(array, is_text=not name.endswith(_BYTES_SUFFIX))
    if tf.as_dtype(array.dtype) not in FIELDS:
        raise unsupported(f"output {name!r}", tf.as_dtype(array.dtype))
    if array.dtype == np.float32:
        # The shortest decimal that is this float32, not the 17 digits of its float64.
        return array.astype(str).astype(np.float64).tolist()
    return array.tolist()


def _write_strings(array: np.ndarray, is_text: bool) -> Any:
    flat = array.ravel().tolist()
    values = np.empty(len(flat), object)
    try:
        values[:] = [value.decode() for value in flat] if is_text else [_as_base64(value) for value in flat]
    except UnicodeDecodeError:  # JSON cannot hold it as text, whatever its name says
        values[:] = [_as_base64(value) for value in flat]
    return values.reshape(array.shape).tolist()


def _as_base64(value: bytes) -> dict[str, str]:
    return {_BASE64: base64.b64encode(value).decode()}


def _kind(value: Any) -> str:
    """A JSON value, for a message."""
    return _KINDS.get(type(value)) or show(value)

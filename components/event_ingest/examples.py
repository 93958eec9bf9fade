"""Arrow tables to serialized tf.Examples, in C++ and by the column."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

_ARROW_TYPES = {
    schema_pb2.BYTES: pa.binary(),
    schema_pb2.INT: pa.int64(),
    schema_pb2.FLOAT: pa.float32(),
}


def _cast(values: pa.Array, feature_type: int) -> pa.Array:
    if pa.types.is_timestamp(values.type):
        values = values.cast(pa.timestamp("ms", tz=values.type.tz))
    elif pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    elif pa.types.is_decimal(values.type):
        values = values.cast(pa.float64())
    return values.cast(_ARROW_TYPES[feature_type])


def _as_lists(column: pa.Array, feature_type: int) -> pa.ListArray:
    """A column as the lists that tf.Example holds; null becomes the empty list, 0 and "" stay values."""
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        values = _cast(column.flatten(), feature_type)
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    else:
        lengths = pc.is_valid(column).to_numpy(zero_copy_only=False)
        values = _cast(column.drop_null(), feature_type)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)


def encode_examples(table: pa.Table, schema: schema_pb2.Schema) -> list[bytes]:
    """Serializes the rows.

    Args:
      table: a column for each feature that the source has; others are left out of the examples.
      schema: the curated schema; columns it does not name are dropped.

    Returns:
      one serialized tf.Example per row.

    Raises:
      pyarrow.ArrowInvalid: if a column cannot take the schema's type.
    """
    types = {feature.name: feature.type for feature in schema.feature}
    names = [name for name in types if name in table.column_names]
    lists = [_as_lists(table.column(name).combine_chunks(), types[name]) for name in names]
    return RecordBatchToExamplesEncoder().encode(pa.RecordBatch.from_arrays(lists, names))

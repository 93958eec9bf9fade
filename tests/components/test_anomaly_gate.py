"""Data that breaks its schema is found by TFX's validation and named by ours."""

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2

from components.anomaly_gate import describe_anomalies
from schemas import features as f


def find(tmp_path, rows):
    """Anomalies of item examples given as a data frame's columns, as ExampleValidator writes them."""
    import pandas as pd

    statistics = tfdv.generate_statistics_from_dataframe(pd.DataFrame(rows))
    anomalies = tfdv.validate_statistics(statistics, f.load_schema("core", "item"))
    assert isinstance(anomalies, anomalies_pb2.Anomalies)
    path = tmp_path / "SchemaDiff.pb"
    path.write_bytes(anomalies.SerializeToString())
    return list(describe_anomalies(str(path), "catalogue"))


GOOD = {"item_id": ["a", "b"], "title": ["A", "B"], "category": ["x", "y"], "published_at": [1, 2]}


def test_good_data_has_none(tmp_path):
    assert find(tmp_path, GOOD) == []


def test_a_missing_column_is_named(tmp_path):
    lines = find(tmp_path, {name: v for name, v in GOOD.items() if name != "category"})
    assert len(lines) == 1 and "split catalogue, feature category" in lines[0]


def test_a_wrong_type_is_named(tmp_path):
    lines = find(tmp_path, {**GOOD, "published_at": ["yesterday", "today"]})
    assert len(lines) == 1 and "feature published_at" in lines[0]


def test_a_column_the_schema_does_not_know_is_named(tmp_path):
    lines = find(tmp_path, {**GOOD, "colour": ["red", "blue"]})
    assert len(lines) == 1 and "feature colour" in lines[0]

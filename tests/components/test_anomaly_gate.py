"""Data that breaks its schema is found by TFX's validation and named by ours."""

import pandas as pd
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2

from components.anomaly_gate import describe_anomalies, read_interactions
from schemas import features as f


def validate(tmp_path, rows, schema):
    """What ExampleValidator writes of examples given as a data frame's columns."""
    statistics = tfdv.generate_statistics_from_dataframe(pd.DataFrame(rows))
    anomalies = tfdv.validate_statistics(statistics, schema)
    assert isinstance(anomalies, anomalies_pb2.Anomalies)
    path = tmp_path / "SchemaDiff.pb"
    path.write_bytes(anomalies.SerializeToString())
    return str(path)


def find(tmp_path, rows):
    """The anomalies of item examples."""
    path = validate(tmp_path, rows, f.load_schema("core", "item"))
    return list(describe_anomalies(path, "catalogue"))


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


def test_the_interactions_are_those_that_the_schema_marks(tmp_path):
    """A column of the log may have such a name, as a count of the user's own would."""
    schema = f.load_schema("core", "impression")
    expected = f.read_interactions(schema)
    for name, tag in (("user_ad_clicks", "role=query"), ("user_shop_id_clicks", "role=privileged")):
        schema.feature.add(name=name).annotation.tag.append(tag)
    found = read_interactions(validate(tmp_path, {"user_ad_clicks": [1]}, schema))
    assert set(found) - set(expected) == {f.Interaction("shop_id", f.Statistic.CLICKS)}

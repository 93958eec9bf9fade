"""The schemas against the names and roles that the code uses."""

import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from schemas import features as f
from sources import event_log
from trainers import preprocessing

CASES = [(source, kind) for source in f.source_names() for kind in f.ExampleType]


@pytest.mark.parametrize(("source", "kind"), CASES)
def test_every_feature_has_a_role_and_a_known_encoding(source, kind):
    features = f.read_features(f.load_schema(source, kind))
    names = [x.name for x in features]
    assert len(names) == len(set(names)) > 0
    for feature in features:
        encodes = feature.role in (f.Role.QUERY, f.Role.CANDIDATE) or (
            kind is f.ExampleType.IMPRESSION
            and feature.role in (f.Role.PRIVILEGED, f.Role.PRIVILEGED_POST_EVENT)
        )
        assert bool(feature.encodings) == encodes, feature
        assert bool(feature.group) == encodes, feature
        assert {e.name for e in feature.encodings} <= set(preprocessing._ENCODERS)


@pytest.mark.parametrize("source", f.source_names())
def test_the_structural_names_are_declared(source):
    impression = {x.name for x in f.read_features(f.load_schema(source, "impression"))}
    page = {x.name for x in f.read_features(f.load_schema(source, "page"))}
    item = {x.name for x in f.read_features(f.load_schema(source, "item"))}
    history = {f.HISTORY_ITEM_ID, f.HISTORY_TIMESTAMP}
    outcome = {f.CLICKED, f.CONVERTED, f.DWELL_SECONDS}
    assert impression >= {f.USER_ID, f.ITEM_ID, f.REQUEST_ID, f.TIMESTAMP, f.POSITION, *history, *outcome}
    lists = {f.CANDIDATE_PREFIX + name for name in (f.ITEM_ID, f.POSITION, *outcome)}
    assert page >= {f.USER_ID, f.REQUEST_ID, f.TIMESTAMP, *history, *lists}
    assert item >= {f.ITEM_ID, f.TITLE, f.CATEGORY}
    assert item < impression


@pytest.mark.parametrize("source", f.source_names())
def test_what_the_contract_says_of_the_event_log_is_in_the_schema(source):
    known_later = {"clicked_at", "converted_at"}
    impression = {x.name for x in f.read_features(f.load_schema(source, "impression"))}
    contract = {
        *event_log.USER_COLUMNS.names,
        *event_log.ITEM_COLUMNS.names,
        *event_log.IMPRESSION_COLUMNS.names,
    }
    assert contract - known_later <= impression
    # What became known after the row may never be a feature of it.
    assert not known_later & impression


@pytest.mark.parametrize("source", f.source_names())
def test_a_history_column_has_its_item_column(source):
    schema = f.load_schema(source, "impression")
    candidates = {x.name for x in f.read_features(schema, f.Role.CANDIDATE)}
    assert set(f.history_columns(schema)) <= candidates
    assert f.ITEM_ID in f.history_columns(schema)


@pytest.mark.parametrize("source", f.source_names())
def test_what_ingestion_is_to_compute_is_privileged_and_of_an_item_column(source):
    schema = f.load_schema(source, "impression")
    candidates = {x.name for x in f.read_features(schema, f.Role.CANDIDATE)}
    interactions = f.read_interactions(schema)
    assert {x.column for x in interactions} <= candidates
    assert {x.name for x in interactions} == {x.name for x in f.read_features(schema, f.Role.PRIVILEGED)}


@pytest.mark.parametrize(
    ("name", "column", "statistic"),
    [
        ("user_shop_id_clicks", "shop_id", f.Statistic.CLICKS),
        ("user_user_clicks_impressions", "user_clicks", f.Statistic.IMPRESSIONS),
        ("user_brand_click_age_seconds", "brand", f.Statistic.CLICK_AGE_SECONDS),
    ],
)
def test_an_interaction_is_told_by_its_name(name, column, statistic):
    assert f.parse_interaction(name) == f.Interaction(column, statistic)
    assert f.Interaction(column, statistic).name == name


@pytest.mark.parametrize("name", ["user_id", "user_clicks", "shop_id_clicks", "user_shop_id_clicks_30d"])
def test_another_name_is_no_interaction(name):
    assert f.parse_interaction(name) is None


@pytest.mark.parametrize(("source", "kind"), CASES)
def test_lists_are_ragged(source, kind):
    assert f.load_schema(source, kind).represent_variable_length_as_ragged


def test_an_unknown_source_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="movielens"):
        f.load_schema("netflix", "item")


def test_a_folder_of_one_s_own_is_a_source(tmp_path):
    (tmp_path / "item.pbtxt").write_text(
        'feature { name: "colour" type: BYTES value_count { min: 0 max: 1 } '
        'annotation { tag: "role=candidate" tag: "group=attributes" tag: "encode=vocabulary" } }'
    )
    features = {x.name: x for x in f.read_features(f.load_schema(str(tmp_path), "impression"))}
    assert features["colour"].role is f.Role.CANDIDATE and f.ITEM_ID in features


def test_a_feature_declared_twice_is_refused(tmp_path):
    (tmp_path / "item.pbtxt").write_text(
        'feature { name: "title" type: BYTES annotation { tag: "role=key" } }'
    )
    with pytest.raises(ValueError, match="'title' is declared twice"):
        f.load_schema(str(tmp_path), "item")


@pytest.mark.parametrize(("tags", "message"), [("", "no role="), ('tag: "colour=red"', "unknown tag")])
def test_a_bad_tag_names_the_feature(tags, message):
    schema = text_format.Parse(
        f'feature {{ name: "x" type: INT annotation {{ {tags} }} }}', schema_pb2.Schema()
    )
    with pytest.raises(ValueError, match=f"'x'.*{message}"):
        f.read_features(schema)


def test_no_feature_of_a_schema_is_a_cross():
    schema = text_format.Parse(
        'feature { name: "x" type: INT annotation { tag: "role=cross" } }', schema_pb2.Schema()
    )
    with pytest.raises(ValueError, match="'x': role=cross is of what Transform makes alone"):
        f.read_features(schema)


def test_the_written_file_s_name_follows_its_content(tmp_path):
    first = f.write_schema("movielens", "item", tmp_path)
    assert f.write_schema("movielens", "item", tmp_path) == first
    assert f.write_schema("amazon", "item", tmp_path) != first
    read = text_format.Parse(first.read_text(), schema_pb2.Schema())
    assert read == f.load_schema("movielens", "item")

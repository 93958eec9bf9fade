"""A schema of one's own against the log it is to describe; each mistake is named by file and feature."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import schema_check
from schemas import features as f
from sources.event_log import EventLog, EventLogError
from trainers import preprocessing

GOOD = """
feature {
  name: "colour"
  type: BYTES
  value_count { min: 0 max: 1 }
  presence { min_count: 0 }
  annotation { tag: "role=candidate" tag: "group=attributes" tag: "encode=vocabulary" }
}
"""


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log"
    day = path / "impressions" / "date=2024-01-02"
    day.mkdir(parents=True)
    items = {
        "item_id": ["i1"],
        "colour": ["red"],
        "price": [1.5],
        "tags": [["a", "b"]],
        "sold": pa.array([3], pa.int32()),
        "user_sold_clicks": pa.array([3], pa.int32()),
    }
    pq.write_table(pa.table({"user_id": ["u1"]}), path / "users.parquet")
    pq.write_table(pa.table(items), path / "items.parquet")
    pq.write_table(pa.table({"request_id": ["r1"], "device": ["phone"]}), day / "part.parquet")
    return EventLog(path, needs_manifest=False)


@pytest.fixture
def check(log, tmp_path):
    def run(**parts):
        folder = tmp_path / "mine"
        folder.mkdir()
        for part, text in parts.items():
            (folder / f"{part}.pbtxt").write_text(text)
        schema_check.check_schema(log, str(folder))

    return run


def declare(name, type_, *tags, count="value_count { min: 0 max: 1 }"):
    annotation = " ".join(f'tag: "{tag}"' for tag in tags)
    return f'feature {{ name: "{name}" type: {type_} {count} annotation {{ {annotation} }} }}\n'


def test_good_schema_is_accepted(check):
    check(
        item=GOOD
        + declare("price", "FLOAT", "role=candidate", "encode=bucketize:10", "encode=zscore")
        + declare("sold", "INT", "role=candidate", "encode=zscore")
        + declare("tags", "BYTES", "role=candidate", "encode=hash:50", count="value_count { min: 0 }"),
        query=declare("device", "BYTES", "role=query", "encode=vocabulary")
        + declare(
            "history_colour", "BYTES", "role=query", "encode=vocabulary", count="value_count { min: 0 }"
        ),
    )


@pytest.mark.parametrize("source", f.source_names())
def test_schemas_of_the_sources_are_accepted(log, source):
    schema_check.check_schema(log, source)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("feature { name: ", r"item.pbtxt: cannot be read \(1:"),
        ("nonsense", "item.pbtxt: cannot be read"),
        (
            GOOD.replace("role=candidate", "role=wizard"),
            "feature 'colour': .*wizard.*Expected tags role=query",
        ),
        (GOOD.replace("role=candidate", "part=a"), "feature 'colour'.*unknown tag 'part=a'"),
        (GOOD.replace("=vocabulary", "=magic"), "feature 'colour': unknown encoding 'magic'.*vocabulary"),
        (GOOD.replace("=vocabulary", "=hash"), "encode=hash expected a size of 2 or more, got 0"),
        (GOOD.replace("=vocabulary", "=hash:ten"), "feature 'colour': .*ten"),
        (GOOD.replace("=vocabulary", "=zscore"), "encode=zscore expected type INT or FLOAT, got BYTES"),
        (GOOD.replace("colour", "color"), "feature 'color': expected a column of this name, got item_id"),
        (GOOD.replace("  type: BYTES\n", ""), "expected type BYTES, INT or FLOAT"),
        (declare("colour", "INT", "role=candidate"), "type INT does not hold the column, which is string"),
        (declare("price", "INT", "role=candidate"), "which is double. Expected type FLOAT"),
        (declare("sold", "BYTES", "role=candidate"), "which is int32. Expected type INT"),
        (declare("tags", "BYTES", "role=candidate"), "expected one value, but the column is list"),
        (GOOD + GOOD, "feature 'colour' is declared twice"),
        (declare("device", "BYTES", "role=candidate"), "feature 'device': expected a column of this name"),
    ],
)
def test_mistake_is_named(check, text, expected):
    with pytest.raises(EventLogError, match=expected):
        check(item=text)


def interaction(name, type_="INT", role="privileged"):
    return declare(name, type_, f"role={role}", "group=interactions", "encode=log2:10", "encode=log_zscore")


def test_what_ingestion_computes_needs_no_column_of_its_own(check):
    check(
        item=GOOD,
        impression=interaction("user_colour_clicks")
        + interaction("user_tags_impressions")
        + interaction("user_colour_click_age_seconds", "FLOAT"),
    )


@pytest.mark.parametrize(
    ("part", "text", "expected"),
    [
        ("impression", interaction("user_color_clicks"), "from the column 'color', which is none of item_id"),
        ("impression", interaction("user_colour_clicks", "FLOAT"), "expected type INT, got FLOAT"),
        (
            "impression",
            interaction("user_colour_click_age_seconds"),
            "'user_colour_click_age_seconds': expected type FLOAT, got INT",
        ),
        ("query", interaction("user_colour_clicks"), "query.pbtxt.*Move it to impression.pbtxt"),
        ("impression", interaction("user_sold_clicks"), "the log has a column of this name"),
        ("impression", interaction("user_colour_clicks", role="query"), "expected a column of this name"),
        ("impression", interaction("user_colour_dislikes"), "expected a column of this name"),
        (
            "impression",
            interaction("user_colour_clicks", role="cross"),
            "role=cross.*Expected tags role=query",
        ),
    ],
)
def test_mistake_in_what_ingestion_computes_is_named(check, part, text, expected):
    with pytest.raises(EventLogError, match=expected):
        check(**{part: text})


def test_folder_without_a_schema_is_named(check):
    with pytest.raises(
        EventLogError, match=r"mine: holds no .pbtxt file. Expected one or more of query.pbtxt"
    ):
        check()


def test_part_of_another_name_is_named(check):
    with pytest.raises(EventLogError, match=r"items.pbtxt: expected one of query.pbtxt, item.pbtxt"):
        check(items=GOOD)


def test_missing_folder_is_named(log, tmp_path):
    with pytest.raises(EventLogError, match="gone': no such folder"):
        schema_check.check_schema(log, str(tmp_path / "gone"))


def test_known_encodings_are_those_of_preprocessing():
    assert set(schema_check.ENCODINGS) == set(preprocessing._ENCODERS)

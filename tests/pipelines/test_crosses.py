"""Which crosses a source gets, and what is said of one that cannot be."""

import re

import pytest

from pipelines.config import ConfigError, TransformConfig
from pipelines.crosses import select_crosses
from schemas import features as f

DEFAULT = TransformConfig()


def test_the_marketplace_has_every_default_cross():
    assert select_crosses("marketplace", DEFAULT) == DEFAULT.crosses


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("core", {"user_id x item_id", "user_id x category"}),
        ("amazon", {"user_id x item_id", "user_id x category", "category x brand"}),
        (
            "movielens",
            {"user_id x item_id", "user_id x category", "gender x occupation", "gender x category"},
        ),
    ],
)
def test_a_default_cross_that_a_source_lacks_is_left_out(source, expected):
    crosses = select_crosses(source, DEFAULT)
    assert set(crosses) == expected
    assert crosses.items() <= DEFAULT.crosses.items()


def test_crosses_of_one_s_own_replace_the_default_ones():
    crosses = {"user_id x release_year": 1000, "gender x category x occupation": 500}
    assert select_crosses("movielens", TransformConfig(crosses)) == crosses
    assert select_crosses("movielens", TransformConfig({})) == {}


@pytest.mark.parametrize(
    ("cross", "message"),
    [
        (
            "user_id x itm_id",
            "has no query or candidate feature 'itm_id'. Did you mean 'item_id'? Features: age",
        ),
        ("gender x brand", "schema 'movielens' has no query or candidate feature 'brand'"),
        ("user_id x clicked", "no query or candidate feature 'clicked'"),
        ("user_id x user_genres_clicks", "no query or candidate feature 'user_genres_clicks'"),
        ("user_id x genres", "genres is a list"),
        ("user_id", "expected two or more different features"),
        ("user_id x user_id", "expected two or more different features"),
        ("user_idxitem_id", "expected two or more different features"),
        ("user_id X item_id", "expected two or more different features"),
        ("", "expected two or more different features"),
    ],
)
def test_a_cross_that_cannot_be_is_named(cross, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        select_crosses("movielens", TransformConfig({"gender x category": 256, cross: 1000}))
    assert str(caught.value).startswith(f"transform.crosses, {cross!r}: ")


def test_a_default_cross_in_a_config_of_one_s_own_is_taken_by_its_word():
    with pytest.raises(ConfigError, match="'core' has no query or candidate feature 'gender'"):
        select_crosses("core", TransformConfig({"gender x category": 512}))


def test_a_fractional_number_is_no_part_of_a_cross():
    with pytest.raises(ConfigError, match="price is a fractional number"):
        select_crosses("marketplace", TransformConfig({"user_id x price": 1000}))


def test_a_name_that_the_outputs_could_not_be_told_apart_by_is_refused(tmp_path):
    (tmp_path / "item.pbtxt").write_text(
        'feature { name: "a_x_b" type: BYTES value_count { max: 1 } annotation { tag: "role=candidate" } }'
    )
    assert "a_x_b" in {x.name for x in f.read_features(f.load_schema(str(tmp_path), "item"))}
    with pytest.raises(ConfigError, match="a_x_b has '_x_' in its name"):
        select_crosses(str(tmp_path), TransformConfig({"user_id x a_x_b": 1000}))

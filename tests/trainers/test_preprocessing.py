"""Every encoding on rows whose answer is worked out by hand; fitted with Beam, as TFX does."""

import numpy as np
import pytest
import tensorflow as tf

from pipelines.config import TransformConfig
from schemas import features as f
from trainers.preprocessing import CROSSES_GROUP, REQUEST_KEY, TIMESTAMP_KEY, USER_KEY, encoded_features

MONDAY_MS = 1_704_067_200_000  # Monday, 1 January 2024, 00:00 UTC
HOUR_MS = 3_600_000
KEYS = {USER_KEY, REQUEST_KEY, TIMESTAMP_KEY}


def _dense(values):
    return values.to_list() if isinstance(values, tf.RaggedTensor) else values.numpy().tolist()


@pytest.fixture(scope="module")
def shop(prepare):
    """Four training rows of a marketplace: i1 three times as target, i9 in a history alone."""
    hour = [0, 1, 24, 49]
    return prepare(
        "marketplace",
        [
            {
                "user_id": f"u{n}",
                "item_id": item,
                "title": title,
                "category": category,
                "brand": brand,
                "price": price,
                "timestamp": MONDAY_MS + hour[n] * HOUR_MS,
                "history_item_id": ["i9", "i1"] if n else [],
                "history_category": ["c9", "c1"] if n else [],
                "history_timestamp": [MONDAY_MS - 1000, MONDAY_MS] if n else [],
                "gender": "f",
                "occupation": "poet",
                "user_shop_id_clicks": [0, 3, None, 3][n],
            }
            for n, (item, title, category, brand, price) in enumerate(
                [
                    ("i1", "Red Shoes", "c1", "b1", 1.0),
                    ("i1", "Red Shoes", "c1", "b1", 1.0),
                    ("i1", "red, HAT!", "c1", None, 4.0),
                    ("i2", "Über-hat", "c2", "b2", None),
                ]
            )
        ],
    )


def test_item_and_history_share_one_vocabulary(shop):
    encoded = shop.encode(
        [{"item_id": "i9", "history_item_id": ["i1", "i9", "i2"], "history_category": ["c9"]}]
    )
    index = int(encoded["item_id_index"][0])
    i1, i9, i2 = _dense(encoded["history_item_id_index"])[0]
    assert i9 == index
    assert sorted([i1, i9, i2]) == [1, 2, 3]
    assert i1 == 1, "the most frequent token comes first"
    assert _dense(encoded["history_category_index"])[0] == _dense(
        shop.encode([{"category": "c9"}])["category_index"]
    )


def test_what_training_never_saw_is_0(shop):
    encoded = shop.encode(
        [{"user_id": "new", "item_id": "new", "category": "new", "title": "new", "brand": "new"}]
    )
    for name in ("user_id_index", "item_id_index", "category_index", "brand_index"):
        assert _dense(encoded[name]) == [0], name
    assert _dense(encoded["title_tokens"]) == [[0]]


def test_missing_values_are_0_or_empty(shop):
    encoded = shop.encode([{}])
    for name in (
        "brand_index",
        "shop_id_index",
        "price_bucket",
        "price_zscore",
        "published_at_bucket",
        "gender_index",
    ):
        assert _dense(encoded[name]) == [0], name
    for name in ("history_item_id_index", "history_category_index", "history_timestamp_age", "title_tokens"):
        assert _dense(encoded[name]) == [[]], name


def test_text_is_split_into_lower_case_words(shop):
    tokens = shop.encode([{"title": "RED hat"}, {"title": "red, HAT!"}, {"title": "über hat shoes"}])[
        "title_tokens"
    ]
    first, second, third = _dense(tokens)
    assert first == second
    assert len(third) == 3 and 0 not in third
    assert third[1] == first[1], "hat"


def test_zscore_has_mean_0_and_variance_1_over_the_training_rows(shop):
    # Prices 1, 1, 4: mean 2, standard deviation √2.
    encoded = shop.encode([{"price": 1.0}, {"price": 4.0}, {"price": 2.0}])
    np.testing.assert_allclose(encoded["price_zscore"], np.array([-1, 2, 0]) / np.sqrt(2), atol=1e-6)


def test_buckets_rise_with_the_value(shop):
    prices = [-5.0, 1.0, 2.5, 4.0, 400.0]
    buckets = _dense(shop.encode([{"price": p} for p in prices])["price_bucket"])
    assert buckets == sorted(buckets)
    assert buckets[0] >= 1 and buckets[-1] <= 10
    assert buckets[1] < buckets[3]


@pytest.mark.parametrize(
    ("milliseconds", "hour", "weekday"),
    [
        (0, 0, 4),  # 1 January 1970, a Thursday
        (MONDAY_MS, 0, 1),
        (MONDAY_MS + 23 * HOUR_MS + 59 * 60_000, 23, 1),
        (MONDAY_MS - 1, 23, 7),
        (1_709_208_000_000, 12, 4),  # Thursday, 29 February 2024, 12:00
    ],
)
def test_calendar_knows_hour_and_weekday(shop, milliseconds, hour, weekday):
    encoded = shop.encode([{"timestamp": milliseconds}])
    assert _dense(encoded["timestamp_hour"]) == [hour + 1]
    assert _dense(encoded["timestamp_weekday"]) == [weekday]


def test_time_is_scaled_over_the_training_period(shop):
    # Hours 0, 1, 24, 49: mean 18.5, standard deviation 19.9311...
    encoded = shop.encode([{"timestamp": MONDAY_MS + h * HOUR_MS} for h in (0, 49)])
    expected = (np.array([0, 49]) - 18.5) / np.std([0, 1, 24, 49])
    np.testing.assert_allclose(encoded["timestamp_zscore"], expected, rtol=1e-3, atol=2e-3)
    first, last = _dense(encoded["timestamp_bucket"])
    assert 1 <= first < last <= 100


def test_age_is_the_power_of_two_of_seconds(shop):
    # 0 s and 1 s -> 2^0, 3 s -> 2^1, 4 s -> 2^2, an hour (3,600 s) -> 2^11, beyond 2^31 s -> 31; from 1.
    seconds = [2**40, 3600, 4, 3, 1, 0]
    row = {"timestamp": 2**60, "history_timestamp": [2**60 - 1000 * s for s in seconds]}
    assert _dense(shop.encode([row])["history_timestamp_age"]) == [[32, 12, 3, 2, 1, 1]]


def test_log2_is_the_power_of_two_of_one_more_and_ends(shop):
    # 1 + x: 1, 2, 3, 4, 7, 8, 2047, 2048, beyond; the powers from 1, 12 of them.
    counts = [0, 1, 2, 3, 6, 7, 2046, 2047, 10**6]
    encoded = shop.encode([*({"user_shop_id_clicks": x} for x in counts), {}])
    assert _dense(encoded["user_shop_id_clicks_log2"]) == [1, 2, 2, 3, 3, 4, 11, 12, 12, 0]


def test_log2_is_exact_at_every_power(shop):
    ages = [2.0**power - 1 for power in range(24)]
    encoded = shop.encode([{"user_shop_id_click_age_seconds": x} for x in ages])
    assert _dense(encoded["user_shop_id_click_age_seconds_log2"]) == list(range(1, 25))


def test_log_zscore_has_mean_0_and_variance_1_over_the_training_rows_that_have_a_value(shop):
    # log(1 + x) of 0, 3, 3 is 0, a, a with a = log 4: mean 2a/3, standard deviation a √2/3.
    encoded = shop.encode([{"user_shop_id_clicks": x} for x in (0, 3, 1, None)])
    # log 2 = a/2, which is a/6 below the mean.
    expected = np.array([-2, 1, -0.5, 0]) / np.sqrt(2)
    np.testing.assert_allclose(encoded["user_shop_id_clicks_log_zscore"], expected, atol=1e-6)


def test_what_no_training_row_has_is_encoded_all_the_same(shop):
    encoded = shop.encode([{"dwell_seconds": 7.0}, {}])
    assert _dense(encoded["dwell_seconds_log2"]) == [4, 0]
    assert np.isfinite(encoded["dwell_seconds_log_zscore"]).all()


def test_crosses_are_of_both_values(shop):
    rows = [
        {"gender": "f", "occupation": "poet"},
        {"gender": "f", "occupation": "poet"},
        {"gender": "m", "occupation": "poet"},
        {"gender": "f", "occupation": "nurse"},
    ]
    same, again, other_gender, other_occupation = _dense(shop.encode(rows)["gender_x_occupation_hash"])
    assert same == again
    assert len({same, other_gender, other_occupation}) == 3
    assert all(1 <= value < 256 for value in (same, other_gender, other_occupation))


@pytest.mark.parametrize("name", [x.replace(" ", "_") for x in TransformConfig().crosses])
def test_a_cross_of_a_missing_value_is_0(shop, name):
    row = {
        "gender": "f",
        "occupation": "poet",
        "city": "rome",
        "device": "phone",
        "brand": "b",
        "shop_id": "s",
    }
    parts = set(name.split("_x_"))
    lacking = [{k: v for k, v in row.items() if k != part} for part in sorted(parts & row.keys())]
    whole, *others = _dense(shop.encode([row, *lacking])[f"{name}_hash"])
    assert whole > 0 and others == [0] * len(lacking)


def test_crosses_come_in_the_schema_s_order_and_one_of_both_sides_is_of_neither(shop):
    roles = [(x.name, x.role, x.size) for x in shop.features if x.group == CROSSES_GROUP]
    assert roles == [
        ("user_id_x_item_id_hash", f.Role.CROSS, 262_144),
        ("user_id_x_category_hash", f.Role.CROSS, 32_768),
        ("user_id_x_shop_id_hash", f.Role.CROSS, 262_144),
        ("gender_x_occupation_hash", f.Role.QUERY, 256),
        ("gender_x_category_hash", f.Role.CROSS, 256),
        ("occupation_x_brand_hash", f.Role.CROSS, 8192),
        ("city_x_device_hash", f.Role.QUERY, 256),
        ("category_x_brand_hash", f.Role.CANDIDATE, 2048),
    ]


def test_crosses_and_their_sizes_are_the_configuration_s(prepare):
    rows = [{"release_year": 1990 + n, "gender": "f", "occupation": "poet"} for n in range(40)]
    crosses = {"user_id x release_year": 8, "gender x category x occupation": 30}
    prepared = prepare("movielens", rows, TransformConfig(crosses))
    found = {x.name: (x.role, x.size) for x in prepared.features if x.group == CROSSES_GROUP}
    assert found == {
        "user_id_x_release_year_hash": (f.Role.CROSS, 8),
        "gender_x_category_x_occupation_hash": (f.Role.CROSS, 30),
    }
    encoded = prepare_values(prepared.encode([*rows, {}]), found)
    assert encoded["user_id_x_release_year_hash"][-1] == 0, "no year"
    assert set(encoded["user_id_x_release_year_hash"][:-1]) == set(range(1, 8)), "every bucket but that"
    assert len(set(encoded["gender_x_category_x_occupation_hash"][:-1])) == 1


def prepare_values(encoded, names):
    return {name: _dense(encoded[name]) for name in names}


def test_features_are_found_by_their_roles(shop):
    for role in (f.Role.QUERY, f.Role.PRIVILEGED, f.Role.PRIVILEGED_POST_EVENT, f.Role.CROSS):
        found = encoded_features(shop.transform, role)
        assert found == tuple(x for x in shop.features if x.role is role) != ()
    both = encoded_features(shop.transform, f.Role.PRIVILEGED, f.Role.PRIVILEGED_POST_EVENT)
    assert {x.group for x in both} == {"interactions", "post_event"}


def test_the_request_s_key_and_time_pass_through(shop):
    rows = [{"request_id": "a", "timestamp": 7}, {"request_id": "b"}, {"request_id": "a", "item_id": "i9"}]
    encoded = shop.encode(rows)
    first, second, again = _dense(encoded[REQUEST_KEY])
    assert first == again != second
    assert _dense(encoded[TIMESTAMP_KEY]) == [7, MONDAY_MS, MONDAY_MS]


def test_the_user_key_tells_unknown_users_apart(shop):
    first, second, again = _dense(
        shop.encode([{"user_id": "x"}, {"user_id": "y"}, {"user_id": "x"}])[USER_KEY]
    )
    assert first == again != second


def test_labels_pass_through(shop):
    encoded = shop.encode([{"clicked": 1, "converted": 0}, {"clicked": 0, "converted": 0}])
    assert _dense(encoded["clicked"]) == [1, 0]
    assert _dense(encoded["converted"]) == [0, 0]


def test_items_alone_give_the_item_side(shop):
    names = [x.name for x in f.read_features(shop.transform.raw_metadata.schema, f.Role.CANDIDATE)]
    row = {"item_id": "i2", "title": "red hat", "category": "c2", "brand": "b2", "price": 4.0}
    alone, whole = shop.encode([row], names), shop.encode([row])
    candidate = [x.name for x in shop.features if x.role is f.Role.CANDIDATE]
    assert set(candidate) <= set(alone)
    assert not set(alone) & {x.name for x in shop.features if x.role is not f.Role.CANDIDATE}
    for name in candidate:
        assert _dense(alone[name]) == _dense(whole[name]), name


def test_a_query_alone_gives_the_query_side(shop):
    names = [x.name for x in f.read_features(shop.transform.raw_metadata.schema, f.Role.QUERY)]
    row = {"user_id": "u1", "gender": "f", "occupation": "poet", "history_item_id": ["i9"]}
    alone, whole = shop.encode([row], names), shop.encode([row])
    query = {x.name for x in shop.features if x.role is f.Role.QUERY}
    assert set(alone) == query | {USER_KEY, TIMESTAMP_KEY}
    for name in query:
        assert _dense(alone[name]) == _dense(whole[name]), name


@pytest.mark.parametrize("source", f.source_names())
def test_encoded_features_describe_the_real_outputs(prepare, random_rows, source):
    rows = random_rows(source)
    prepared = prepare(source, rows)
    encoded = prepared.encode([*rows, {"item_id": "new", "user_id": "new"}])
    schema = prepared.transform.raw_metadata.schema
    labels = {x.name for x in f.read_features(schema, f.Role.LABEL)}
    assert {x.name for x in prepared.features} | labels | KEYS == set(encoded)
    for x in prepared.features:
        values = encoded[x.name]
        assert x.is_list == isinstance(values, tf.RaggedTensor), x.name
        if x.size == 0:
            assert values.dtype == tf.float32, x.name
            continue
        flat = (values.flat_values if x.is_list else values).numpy()
        assert flat.min() >= 0 and flat.max() < x.size, x.name
    vocabularies = {x.name: x.size for x in prepared.features if x.name.endswith("_index")}
    for name, size in vocabularies.items():
        values = encoded[name]
        flat = (values.flat_values if isinstance(values, tf.RaggedTensor) else values).numpy()
        assert name.startswith("history") or not len(flat) or flat.max() <= size - 1
    assert vocabularies["item_id_index"] == vocabularies["history_item_id_index"]

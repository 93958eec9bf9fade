"""Every encoding on rows whose answer is worked out by hand; fitted with Beam, as TFX does."""

import numpy as np
import pytest
import tensorflow as tf

from schemas import features as f
from trainers.preprocessing import REQUEST_KEY, TIMESTAMP_KEY, USER_KEY

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
    assert "user_id_index" not in alone
    for name in candidate:
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

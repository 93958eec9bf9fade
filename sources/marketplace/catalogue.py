"""The items: category, brand, shop, price, style, quality, popularity and publication."""

import dataclasses
import datetime as dt

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sources.event_log import TIMESTAMP
from sources.marketplace.config import MarketplaceConfig

TASTE_DIM = 8
NUM_STYLES = 32
DAY_MS = 86_400_000
NEW_ITEM_SHARE = 0.25  # published while the log runs
MAX_AGE_DAYS = 180  # of the items published before it

CONTENT_TYPES = ("product", "video", "live")
CONTENT_TYPE_SHARES = (0.7, 0.2, 0.1)
PRICE_WORDS = ("budget", "value", "classic", "select", "premium", "luxury")
WORDS_PER_CATEGORY = 12


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """The items, one array entry each; I items, S shops.

    Attributes:
      category, brand, shop, style: [I] codes.
      latent: [I, TASTE_DIM] what taste is matched against; each row has a norm of about 1.
      style_centres: [NUM_STYLES, TASTE_DIM] the mean latent of each style.
      log_price: [I] natural logarithm of the price.
      price_level: [I] log price relative to the category's, standardised.
      quality: [I] log-odds that the item adds to a click.
      tickets: [I] popularity under the logging policy, a whole number of lottery tickets.
      published_ms: [I] publication, milliseconds since the epoch (UTC).
      first_day: [I] first day on which the policy knows the item, 0 being the log's first.
      content_type, group_priority: [I] codes.
      shop_category: [S] what each shop mainly sells.
      shop_weight: [S] relative size of each shop.
    """

    category: np.ndarray
    brand: np.ndarray
    shop: np.ndarray
    style: np.ndarray
    latent: np.ndarray
    style_centres: np.ndarray
    log_price: np.ndarray
    price_level: np.ndarray
    quality: np.ndarray
    tickets: np.ndarray
    published_ms: np.ndarray
    first_day: np.ndarray
    content_type: np.ndarray
    group_priority: np.ndarray
    shop_category: np.ndarray
    shop_weight: np.ndarray


def build_catalogue(config: MarketplaceConfig) -> Catalogue:
    """Draws the items. Switches never shift the draws: switching one off changes that effect alone."""
    rng = np.random.default_rng([config.seed, 1])
    size, shops, brands = config.num_items, config.num_shops, config.num_brands
    category_share = _shares(1.0 / np.arange(1, config.num_categories + 1) ** 0.5)

    shop_weight = rng.lognormal(sigma=1.0, size=shops)
    shop_category = rng.choice(config.num_categories, size=shops, p=category_share)
    shop = rng.choice(shops, size=size, p=_shares(shop_weight))
    num_stocked = min(shops, size // 2)  # most shops sell something, whatever the draw
    shop[:num_stocked] = np.arange(num_stocked)
    elsewhere = rng.choice(config.num_categories, size=size, p=category_share)
    category = np.where(rng.random(size) < 0.85, shop_category[shop], elsewhere)

    brand_style = rng.integers(NUM_STYLES, size=brands)
    brand_level = rng.normal(size=brands)
    # Brands are dealt to the categories in turn; an item's brand is one of its category's.
    turns = -(-brands // config.num_categories)
    turn = (turns * rng.random(size) ** 1.5).astype(np.int64)
    brand = (category + config.num_categories * turn) % brands

    price_level = 0.7 * brand_level[brand] + 0.7 * rng.normal(size=size)
    log_price = rng.normal(3.2, 0.7, size=config.num_categories)[category] + 0.45 * price_level

    style_centres = rng.normal(size=(NUM_STYLES, TASTE_DIM)) / np.sqrt(TASTE_DIM)
    style = brand_style[brand]
    latent = style_centres[style] + 0.35 * rng.normal(size=(size, TASTE_DIM)) / np.sqrt(TASTE_DIM)
    latent[:, 0] = 0.6 * latent[:, 0] + 0.25 * price_level  # one dimension is how dear it is

    popularity = rng.normal(size=size)
    quality = 0.6 * popularity + 0.8 * rng.normal(size=size)  # unit variance
    published_ms, first_day = _draw_publication(config, rng)
    content_type = rng.choice(len(CONTENT_TYPES), size=size, p=CONTENT_TYPE_SHARES)
    return Catalogue(
        category=category.astype(np.int32),
        brand=brand.astype(np.int32),
        shop=shop.astype(np.int32),
        style=style.astype(np.int32),
        latent=latent.astype(np.float32),
        style_centres=style_centres.astype(np.float32),
        log_price=log_price.astype(np.float32),
        price_level=price_level.astype(np.float32),
        quality=(0.25 * quality * config.long_tail).astype(np.float32),
        tickets=np.clip(np.rint(6 * np.exp(1.1 * popularity * config.long_tail)), 1, 200).astype(np.int32),
        published_ms=published_ms,
        first_day=first_day,
        content_type=content_type,
        group_priority=rng.integers(4, size=size),
        shop_category=shop_category,
        shop_weight=shop_weight,
    )


def start_ms(config: MarketplaceConfig) -> int:
    """The first millisecond of the log since the epoch."""
    return (config.start_date - dt.date(1970, 1, 1)).days * DAY_MS


def _draw_publication(config: MarketplaceConfig, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Publication time [I] and the first day [I] on which the policy, rebuilt at midnight, knows the item."""
    num_old = config.num_items - int(NEW_ITEM_SHARE * config.num_items) * config.cold_start
    is_old = rng.permutation(config.num_items) < num_old
    old_ms = -rng.integers(1, MAX_AGE_DAYS * DAY_MS, size=config.num_items)
    new_ms = rng.integers(0, config.num_days * DAY_MS, size=config.num_items)
    offset_ms = np.where(is_old, old_ms, new_ms)
    return start_ms(config) + offset_ms, (offset_ms // DAY_MS + 1).astype(np.int32)


def make_items_table(config: MarketplaceConfig, catalogue: Catalogue) -> pa.Table:
    """The catalogue as the event log stores it."""
    rng = np.random.default_rng([config.seed, 2])
    first, second = rng.integers(WORDS_PER_CATEGORY, size=(2, config.num_items))
    level = np.clip(np.digitize(catalogue.price_level, [-1.2, -0.5, 0.2, 0.9, 1.6]), 0, 5)
    brand_words = [make_word(1, brand) for brand in range(config.num_brands)]
    category_words = [
        [make_word(0, category, word) for word in range(WORDS_PER_CATEGORY)]
        for category in range(config.num_categories)
    ]
    titles = [
        f"{PRICE_WORDS[p]} {brand_words[b]} {category_words[c][i]} {category_words[c][j]} {CONTENT_TYPES[t]}"
        for p, b, c, i, j, t in zip(
            level.tolist(),
            catalogue.brand.tolist(),
            catalogue.category.tolist(),
            first.tolist(),
            second.tolist(),
            catalogue.content_type.tolist(),
            strict=True,
        )
    ]
    return pa.table(
        {
            "item_id": make_ids("i", config.num_items),
            "title": pa.array(titles),
            "category": make_ids("c", config.num_categories, 2).take(pa.array(catalogue.category)),
            "published_at": pa.array(catalogue.published_ms).cast(TIMESTAMP),
            "brand": make_ids("b", config.num_brands, 4).take(pa.array(catalogue.brand)),
            "shop_id": make_ids("s", config.num_shops, 5).take(pa.array(catalogue.shop)),
            "price": pa.array(np.round(np.exp(catalogue.log_price), 2), pa.float32()),
            "content_type": pa.array(CONTENT_TYPES).take(pa.array(catalogue.content_type)),
            "group_priority": pa.array(catalogue.group_priority, pa.int32()),
        }
    )


def make_ids(prefix: str, count: int, digits: int = 6, first: int = 0) -> pa.Array:
    """Opaque ids `<prefix><number>` from `first` on, numbers padded so that they sort."""
    numbers = pa.array(np.arange(first, first + count)).cast(pa.string())
    return pc.binary_join_element_wise(prefix, pc.utf8_lpad(numbers, digits, "0"), "")


def make_word(*numbers: int) -> str:
    """An invented word, the same for the same numbers: three syllables."""
    code = 7
    for number in numbers:
        code = (code * 1_000_003 + number + 1) * 2_654_435_761 % 2**32
    syllables = []
    for _ in range(3):
        code, consonant = divmod(code, 19)
        code, vowel = divmod(code, 5)
        syllables.append("bcdfghjklmnprstvwxz"[consonant] + "aeiou"[vowel])
    return "".join(syllables)


def _shares(weights: np.ndarray) -> np.ndarray:
    return weights / weights.sum()

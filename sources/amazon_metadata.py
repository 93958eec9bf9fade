"""What Amazon's metadata files say of the reviewed items.

The 2018 and 2023 files are JSON lines. Those of 2014 are Python literals, one per line, which `ast` reads
(it evaluates nothing). One line is parsed at a time: the fields' types differ from line to line.
"""

import ast
import html
import json
import math
import re
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa

from sources.event_log import EventLogError

UNKNOWN_CATEGORY = "unknown"

_ID_FIELDS = ("parent_asin", "asin")  # 2023 files have both: its reviews are joined by the first
_CATEGORY_FIELDS = ("categories", "category")
_BRAND_FIELDS = ("brand", "store")
_PRICE = re.compile(r"\$?\s*([0-9][0-9,]*(?:\.[0-9]+)?)")


class Item(NamedTuple):
    """What is known of an item."""

    title: str
    category: str
    brand: str | None = None
    price: float | None = None


def read_items(path: Path, stream: IO[bytes], item_ids: pa.Array) -> pa.Table:
    """The catalogue of the reviewed items; of two lines for one item the first counts (2018 repeats some).

    Args:
      path: the metadata file, for messages.
      stream: its content, unpacked.
      item_ids: the items that have a review.

    Raises:
      EventLogError: if a line is neither JSON nor a Python literal, or has no id, or none of the items is
        described.
    """
    found: dict[str, Item] = {}
    reviewed = set(item_ids.to_pylist())
    for number, line in enumerate(stream, start=1):
        meta = _parse_line(line)
        item_id = _first_of(meta, _ID_FIELDS) if isinstance(meta, dict) else None
        if not isinstance(item_id, str) or not item_id:
            raise EventLogError(
                f"{path}, line {number}, asin: expected one JSON object (or Python literal, as in the 2014 "
                f"files) with an asin, got {line[:80].decode('utf-8', 'replace')!r}. Correct or remove the "
                "line; nothing was written."
            )
        if item_id in reviewed and item_id not in found:
            found[item_id] = Item(
                _text(meta.get("title")) or item_id,
                _leaf_category(_first_of(meta, _CATEGORY_FIELDS)),
                _text(_first_of(meta, _BRAND_FIELDS)),
                _price(meta.get("price")),
            )
    if not found:
        raise EventLogError(
            f"{path}: expected metadata of the reviewed items, got none of any of them. Give the file of the "
            "same category and release as the reviews; nothing was written."
        )
    return make_items(item_ids, found)


def make_items(item_ids: pa.Array, found: dict[str, Item]) -> pa.Table:
    """The catalogue; an item that is not found has its id for a title and the category "unknown"."""
    rows = [found.get(item_id) or Item(item_id, UNKNOWN_CATEGORY) for item_id in item_ids.to_pylist()]
    return pa.table(
        {
            "item_id": item_ids,
            "title": pa.array([item.title for item in rows], pa.string()),
            "category": pa.array([item.category for item in rows], pa.string()),
            "brand": pa.array([item.brand for item in rows], pa.string()),
            "price": pa.array([item.price for item in rows], pa.float32()),
        }
    )


def _parse_line(line: bytes) -> Any:
    try:
        text = line.decode("utf-8")
        try:
            return json.loads(text)
        except ValueError:
            return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):  # what `ast` raises for damaged text
        return None


def _first_of(meta: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((meta[name] for name in names if meta.get(name)), None)


def _text(value: Any) -> str | None:
    """Readable text: the files escape titles as in HTML, and write some characters as UTF-16 surrogates."""
    return (_join_surrogates(html.unescape(value)).strip() or None) if isinstance(value, str) else None


def _join_surrogates(text: str) -> str:
    """Pairs of surrogates become the character they stand for, a lone one U+FFFD: UTF-8 has neither."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _leaf_category(categories: Any) -> str:
    """The last of the first path, as DIEN's own preparation takes it: categories[0][-1]."""
    if isinstance(categories, list) and categories and isinstance(categories[0], list):
        categories = categories[0]
    leaf = categories[-1] if isinstance(categories, list) and categories else categories
    return _text(leaf) or UNKNOWN_CATEGORY


def _price(value: Any) -> float | None:
    """A price in dollars; null for a range ("$5.00 - $9.00"), which is several."""
    if isinstance(value, str) and (match := _PRICE.fullmatch(value.strip())):
        value = float(match[1].replace(",", ""))
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None

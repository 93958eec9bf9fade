import datetime as dt
import gzip
import json

import pyarrow.parquet as pq
import pytest

from sources import text_files
from sources.amazon import import_amazon
from sources.event_log import EventLog, EventLogError, Manifest
from sources.validation import validate_event_log

SECONDS = 1252800000
TIME = dt.datetime(2009, 9, 13, tzinfo=dt.timezone.utc)


def review(**changes):
    """A line of the 2014 release, with the fields that are not used."""
    fields = {
        "reviewerID": "A1",
        "asin": "B1",
        "reviewerName": "J. McDonald",
        "helpful": [2, 3],
        "reviewText": "Works – thanks",
        "overall": 5.0,
        "summary": "ok",
        "unixReviewTime": SECONDS,
        "reviewTime": "09 13, 2009",
    }
    return {name: value for name, value in {**fields, **changes}.items() if value is not ...}


def lines(*objects):
    return "".join(json.dumps(value) + "\n" for value in objects)


@pytest.fixture
def src(tmp_path):
    """Writes files to a directory; a name that ends in .gz is packed."""

    def write(**files):
        folder = tmp_path / "src"
        folder.mkdir(exist_ok=True)
        for name, text in files.items():
            content = text.encode() if isinstance(text, str) else text
            path = folder / name.replace("__", ".")
            path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
        return folder

    return write


def imported(src, tmp_path, **options):
    assert import_amazon(src, tmp_path / "out", **options) == Manifest("amazon", "amazon")
    log = EventLog(tmp_path / "out")
    validate_event_log(log)
    return log


def read_rows(log):
    return [
        row
        for files in log.partitions().values()
        for f in files
        for row in pq.ParquetFile(f).read().to_pylist()
    ]


def read_items(log):
    return {item["item_id"]: item for item in pq.read_table(log.items_path).to_pylist()}


@pytest.mark.parametrize("name", ["reviews__json", "reviews__json__gz", "reviews__jsonl"])
def test_review_becomes_a_shown_and_clicked_impression(src, tmp_path, name):
    log = imported(src(**{name: lines(review(), review(asin="B2", overall=3))}), tmp_path)
    one, two = read_rows(log)

    assert one == {
        "request_id": "1",
        "user_id": "A1",
        "item_id": "B1",
        "position": 0,
        "timestamp": TIME,
        "clicked": True,
        "clicked_at": TIME,
        "converted": True,
        "converted_at": TIME,
        "dwell_seconds": None,
        "rating": 5.0,
    }
    assert (two["item_id"], two["rating"], two["converted"], two["converted_at"]) == ("B2", 3.0, False, None)
    assert pq.read_table(log.users_path).to_pylist() == [{"user_id": "A1"}]


def test_reviews_without_metadata_have_items(src, tmp_path):
    log = imported(src(r__json=lines(review())) / "r.json", tmp_path)
    assert read_items(log) == {
        "B1": {
            "item_id": "B1",
            "title": "B1",
            "category": "unknown",
            "published_at": None,
            "brand": None,
            "price": None,
        }
    }


def test_metadata_of_2014_are_python_literals(src, tmp_path):
    meta = (
        "{'asin': 'B1', 'title': \"Salt &amp; Pepper\", 'price': 3.5, 'brand': 'Acme',"
        " 'categories': [['Home', 'Kitchen', 'Mills'], ['Gifts']], 'related': {'also_bought': ['B2']}}\n"
        "{'asin': 'B9', 'title': 'not reviewed', 'categories': [['Home']]}\n"
    )
    items = read_items(imported(src(r__json=lines(review(), review(asin="B2")), meta_r__json=meta), tmp_path))

    assert set(items) == {"B1", "B2"}
    assert (items["B1"]["title"], items["B1"]["category"]) == ("Salt & Pepper", "Mills")
    assert (items["B1"]["brand"], items["B1"]["price"]) == ("Acme", 3.5)
    assert items["B2"]["category"] == "unknown"


def test_metadata_of_2018_name_things_otherwise_and_repeat(src, tmp_path):
    meta = lines(
        {
            "asin": "B1",
            "title": "first",
            "category": ["Home", "Mills"],
            "price": "$1,012.50",
            "brand": "Acme",
        },
        {"asin": "B1", "title": "second", "category": []},
        {"asin": "B2", "title": "", "category": [], "price": "$5.00 - $9.00", "brand": ""},
    )
    reviews = lines(review(), review(asin="B2", style={"Size:": "L"}, verified=True, vote="5"))
    items = read_items(imported(src(r__json__gz=reviews, meta_r__json__gz=meta), tmp_path))

    assert (items["B1"]["title"], items["B1"]["category"], items["B1"]["price"]) == ("first", "Mills", 1012.5)
    assert (items["B2"]["title"], items["B2"]["category"]) == ("B2", "unknown")
    assert (items["B2"]["brand"], items["B2"]["price"]) == (None, None)


@pytest.mark.parametrize(
    ("meta", "title"),
    [
        (r"{'asin': 'B1', 'title': u'\ud83d\ude00 x', 'brand': u'\udc00'}", "\U0001f600 x"),
        (r'{"asin": "B1", "title": "x\ud800", "brand": "\udc00"}', "x\ufffd"),
        (r'{"asin": "B1", "title": "\ud800x\ud83d\ude00", "brand": "\udc00"}', "\ufffdx\U0001f600"),
    ],
)
def test_surrogates_become_characters(src, tmp_path, meta, title):
    items = read_items(imported(src(r__json=lines(review()), meta_r__json=meta + "\n"), tmp_path))
    assert (items["B1"]["title"], items["B1"]["brand"]) == (title, "\ufffd")


def test_release_of_2023(src, tmp_path):
    text = lines(
        {
            "user_id": "A1",
            "asin": "C1",
            "parent_asin": "B1",
            "rating": 4.0,
            "timestamp": SECONDS * 1000 + 7,
            "images": [],
        }
    )
    meta = lines(
        {"parent_asin": "B1", "title": "t", "categories": ["Home", "Mills"], "store": "S", "price": None}
    )
    log = imported(src(r__jsonl=text, meta_r__jsonl=meta), tmp_path)

    assert read_rows(log)[0]["timestamp"] == TIME.replace(microsecond=7000)
    assert read_rows(log)[0]["converted"] is True
    assert (read_items(log)["B1"]["category"], read_items(log)["B1"]["brand"]) == ("Mills", "S")


def test_seconds_in_the_release_of_2023_are_refused(src, tmp_path):
    text = lines({"user_id": "A1", "parent_asin": "B1", "rating": 4.0, "timestamp": SECONDS})
    expected = rf"line 1, timestamp: expected milliseconds since .*, got {SECONDS}"
    with pytest.raises(EventLogError, match=expected):
        import_amazon(src(r__jsonl=text), tmp_path / "out")


def test_metadata_can_be_elsewhere(src, tmp_path):
    folder = src(r__json=lines(review()), other__json=lines({"asin": "B1", "categories": [["Mills"]]}))
    log = imported(folder / "r.json", tmp_path, metadata=folder / "other.json")

    assert read_items(log)["B1"]["category"] == "Mills"


def test_review_written_twice_is_one_event(src, tmp_path):
    text = lines(review(), review(overall=2.0), review(unixReviewTime=SECONDS + 1), review(reviewerID="A2"))
    rows = read_rows(imported(src(r__json=text), tmp_path))

    assert [(row["request_id"], row["rating"]) for row in rows] == [("2", 2.0), ("4", 5.0), ("3", 5.0)]


BAD_REVIEWS = [
    (lines(review())[:-20], "line 2: expected one JSON object"),
    ("not json\n", "line 2: expected one JSON object"),
    ("[1]\n", "lines from 1: expected one JSON object per line"),
    ("\n", "line 2: expected one JSON object"),
    (lines(review(reviewerID=...)), "line 2, reviewerID: expected an id, got None"),
    (lines(review(asin="")), "line 2, asin: expected an id, got ''"),
    (lines(review(asin=5)), "line 2, asin: expected str, got 5"),
    (lines(review(overall="five")), "line 2, overall: expected a number, got 'five'"),
    (lines(review(overall=0)), "line 2, overall: expected a number from 1 to 5, got 0.0"),
    (lines(review(overall=None)), "line 2, overall: expected a number from 1 to 5, got None"),
    (
        lines(review(unixReviewTime=-1)),
        "line 2, unixReviewTime: expected whole seconds since 1970-01-01, of the years 1995 to 2099, got -1",
    ),
    (lines(review(unixReviewTime=99_999_999_998)), "line 2, unixReviewTime: expected whole seconds"),
    (lines(review(unixReviewTime=SECONDS * 1000)), "line 2, unixReviewTime: expected whole seconds"),
    (lines(review(unixReviewTime="09 13, 2009")), "line 2, unixReviewTime: expected int, got '09 13, 2009'"),
    (lines(review(asin="B?")).encode().replace(b"?", b"\xff"), "line 2: expected one JSON object"),
]


@pytest.mark.parametrize("name", ["r__json", "r__json__gz"])
@pytest.mark.parametrize(("line", "expected"), BAD_REVIEWS)
def test_bad_review_is_named_and_nothing_is_left(src, tmp_path, name, line, expected):
    first = lines(review()).encode()
    folder = src(**{name: first + (line.encode() if isinstance(line, str) else line)})
    with pytest.raises(EventLogError) as caught:
        import_amazon(folder, tmp_path / "new" / "out")

    assert f"{name.replace('__', '.')}, {expected}" in str(caught.value)
    assert "nothing was written" in str(caught.value)
    assert list(tmp_path.iterdir()) == [folder]


def test_more_short_lines_than_arrow_reads_at_once(src, tmp_path):
    count = 130_000  # of a block of 16 MiB; Arrow takes 100,000
    rows = (
        f'{{"reviewerID":"u{n % 1000}","asin":"B{n % 7}","overall":5.0,"unixReviewTime":{1_400_000_000 + n}}}'
        for n in range(count)
    )
    folder = src(r__json="\n".join(rows) + "\n")
    import_amazon(folder, tmp_path / "out")
    files = (tmp_path / "out" / "impressions").glob("*/*.parquet")
    assert sum(pq.ParquetFile(path).metadata.num_rows for path in files) == count


def test_line_numbers_count_through_blocks(src, tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 600)
    folder = src(r__json=lines(*[review()] * 40, review(overall=9)))
    with pytest.raises(EventLogError, match=r"r.json, line 41, overall"):
        import_amazon(folder, tmp_path / "out")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"r__json": ""}, "r.json: is empty"),
        (
            {"r__json": lines({"asin": "B1", "title": "t"})},
            "line 1: expected a JSON object with reviewerID, asin",
        ),
        ({"r__json": "5\n"}, "line 1: expected a JSON object with reviewerID, asin"),
        ({}, "found: none"),
        ({"a__json": "", "b__json": ""}, "found: a.json, b.json"),
        ({"meta_a__json": ""}, "found: meta_a.json"),
        (
            {"r__json": lines(review()), "meta_r__json": ""},
            "meta_r.json: expected metadata of the reviewed items",
        ),
        (
            {"r__json": lines(review()), "meta_r__json": "{'asin': 'B1'\n"},
            "meta_r.json, line 1, asin: expected one",
        ),
        (
            {"r__json": lines(review()), "meta_r__json": "{'asin': __import__('os')}\n"},
            "meta_r.json, line 1, asin",
        ),
        ({"r__json": lines(review()), "meta_r__json": '{"title": "t"}\n'}, "meta_r.json, line 1, asin"),
    ],
)
def test_wrong_files_are_named_and_nothing_is_left(src, tmp_path, files, expected):
    folder = src(**files)
    with pytest.raises(EventLogError) as caught:
        import_amazon(folder, tmp_path / "out")

    assert expected in str(caught.value)
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("name", ["r.json.gz", "meta_r.json.gz"])
@pytest.mark.parametrize("damage", [lambda content: content[:-12], lambda content: b"no gzip" + content])
def test_damaged_gzip_is_named(src, tmp_path, name, damage):
    folder = src(r__json__gz=lines(review()), meta_r__json__gz=lines({"asin": "B1"}))
    (folder / name).write_bytes(damage((folder / name).read_bytes()))
    with pytest.raises(EventLogError, match=f"{name}: cannot be unpacked"):
        import_amazon(folder, tmp_path / "out")

    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize(("name", "expected"), [("gone.json", "no such file"), ("", "a directory")])
def test_metadata_that_is_no_file_is_named_before_the_reviews_are_read(src, tmp_path, name, expected):
    folder = src(r__json="not read\n")
    with pytest.raises(EventLogError, match=rf"{name}: {expected}. Expected a file of metadata"):
        import_amazon(folder / "r.json", tmp_path / "out", folder / name)


def test_missing_source_is_named(tmp_path):
    with pytest.raises(EventLogError, match="nowhere: no such file or directory"):
        import_amazon(tmp_path / "nowhere", tmp_path / "out")

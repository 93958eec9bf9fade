import datetime as dt

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sources import ratings, text_files
from sources.event_log import EventLog, EventLogError
from sources.movielens import import_movielens
from sources.text_files import Layout, read_all_lines
from sources.validation import validate_event_log

FLAGS = "|".join("0" * 19)

FILES = {
    "100k": {
        "u.data": "196\t242\t3\t881250949\n186\t302\t5\t891717742\n196\t302\t4\t881250949\n",
        "u.item": (
            "242|Kolya (1996)|24-Jan-1997||http://x|0|0|0|0|0|1|0|0|1|0|0|0|0|0|0|0|0|0|0\n"
            "302|Misérables, Les (1935)|01-Jan-1935||http://x|0|0|0|0|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0\n"
            f"267|unknown||||1{FLAGS[1:]}\n"
        ),
        "u.user": "196|49|M|writer|55105\n186|39|F|executive|00000\n",
    },
    "1m": {
        "ratings.dat": "1::1193::5::978300760\n2::661::3::978302109\n",
        "movies.dat": "1193::Star Wars: Episode IV - A New Hope (1977)::Action\n661::Café (1996)::Drama\n",
        "users.dat": "1::F::1::10::48067\n2::M::56::16::70072\n",
    },
    "10m": {
        "ratings.dat": "1::122::4.5::838985046\n",
        "movies.dat": "122::Café (1992)::Comedy|Romance\n",
        "tags.dat": "15::4973::excellent!::1215184630\n",
    },
    "latest": {
        "ratings.csv": "userId,movieId,rating,timestamp\r\n1,1,4.0,964982703\r\n2,11,3.5,964981247\r\n",
        "movies.csv": (
            "movieId,title,genres\r\n"
            "1,Toy Story (1995),Adventure|Comedy\r\n"
            '11,"American ""President"", The (Präsident) (1995) ",Drama\r\n'
            "3,Death Note: Desu nôto (2006–2007),(no genres listed)\r\n"
            "4,Babylon 5,Sci-Fi\r\n"
            "5,A Trip to the Moon (1902),Fantasy\r\n"
            "6,Land Before Time III (1995) (V),Animation\r\n"
        ),
    },
}
LATIN_1 = ("100k", "1m")


def write_files(path, name, **changes):
    path.mkdir()
    for file, text in {**FILES[name], **changes}.items():
        content = text if isinstance(text, bytes) else text.encode("latin-1" if name in LATIN_1 else "utf-8")
        (path / file).write_bytes(content)
    return path


def read_rows(log):
    return [
        row
        for files in log.partitions().values()
        for f in files
        for row in pq.ParquetFile(f).read().to_pylist()
    ]


def read_items(log):
    return {item["item_id"]: item for item in pq.read_table(log.items_path).to_pylist()}


@pytest.fixture
def imported(tmp_path):
    def run(name, **changes):
        import_movielens(write_files(tmp_path / "src", name, **changes), tmp_path / "out")
        log = EventLog(tmp_path / "out")
        validate_event_log(log)
        return log

    return run


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("100k", "movielens-100k"),
        ("1m", "movielens-1m"),
        ("10m", "movielens-10m"),
        ("latest", "movielens-latest"),
    ],
)
def test_data_sets_are_told_apart(imported, name, source):
    manifest = imported(name).manifest
    assert (manifest.source, manifest.schema, manifest.synthetic) == (source, "movielens", False)


def test_rating_becomes_a_shown_and_clicked_impression(imported):
    one, two = sorted(read_rows(imported("latest")), key=lambda row: row["request_id"])
    time = dt.datetime(2000, 7, 30, 18, 45, 3, tzinfo=dt.timezone.utc)

    assert one == {
        "request_id": "2",  # the line
        "user_id": "1",
        "item_id": "1",
        "position": 0,
        "timestamp": time,
        "clicked": True,
        "clicked_at": time,
        "converted": True,
        "converted_at": time,
        "dwell_seconds": None,
        "rating": 4.0,
    }
    assert (two["rating"], two["clicked"], two["converted"], two["converted_at"]) == (3.5, True, False, None)


def test_titles_years_and_genres_of_csv(imported):
    items = read_items(imported("latest"))
    new_year = dt.datetime(1995, 1, 1, tzinfo=dt.timezone.utc)

    assert items["1"] == {
        "item_id": "1",
        "title": "Toy Story",
        "category": "Adventure",
        "published_at": new_year,
        "genres": ["Adventure", "Comedy"],
        "release_year": 1995,
    }
    assert items["11"]["title"] == 'American "President", The (Präsident)'
    assert (items["3"]["title"], items["3"]["release_year"]) == ("Death Note: Desu nôto", 2006)
    assert (items["3"]["category"], items["3"]["genres"]) == ("unknown", [])
    assert (items["4"]["title"], items["4"]["release_year"]) == ("Babylon 5", None)
    assert items["4"]["published_at"] is None
    assert (items["5"]["published_at"], items["5"]["release_year"]) == (None, 1902)
    assert (items["6"]["title"], items["6"]["published_at"]) == ("Land Before Time III (V)", new_year)


def test_byte_order_mark_is_no_part_of_the_header(imported):
    marked = {file: "\ufeff" + text for file, text in FILES["latest"].items()}
    log = imported("latest", **marked)

    assert [row["user_id"] for row in read_rows(log)] == ["2", "1"]
    assert read_items(log)["1"]["title"] == "Toy Story"


def test_byte_order_mark_is_no_part_of_an_id(imported):
    log = imported("10m", **{file: "\ufeff" + text for file, text in FILES["10m"].items()})
    assert [(row["user_id"], row["item_id"]) for row in read_rows(log)] == [("1", "122")]


def test_titles_and_genres_of_100k(imported):
    items = read_items(imported("100k"))

    assert (items["242"]["title"], items["242"]["genres"]) == ("Kolya", ["Comedy", "Drama"])
    assert items["242"]["category"] == "Comedy"
    assert items["302"]["title"] == "Misérables, Les"
    assert (items["267"]["title"], items["267"]["category"], items["267"]["genres"]) == (
        "unknown",
        "unknown",
        [],
    )


def test_titles_of_1m(imported):
    items = read_items(imported("1m"))
    assert items["1193"]["title"] == "Star Wars: Episode IV - A New Hope"
    assert items["661"]["title"] == "Café"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("100k", {"user_id": "196", "gender": "M", "age": "49", "occupation": "writer"}),
        ("1m", {"user_id": "1", "gender": "F", "age": "1", "occupation": "10"}),
        ("10m", {"user_id": "1"}),
        ("latest", {"user_id": "1"}),
    ],
)
def test_users_have_what_the_data_set_knows(imported, name, expected):
    assert pq.read_table(imported(name).users_path).to_pylist()[0] == expected


def test_rating_written_twice_is_one_event(imported):
    text = FILES["1m"]["ratings.dat"] + "1::1193::2::978300760\n1::1193::2::978300761\n"
    rows = [row for row in read_rows(imported("1m", **{"ratings.dat": text})) if row["item_id"] == "1193"]

    assert [(row["request_id"], row["rating"]) for row in rows] == [("3", 2.0), ("4", 2.0)]


def test_blocks_and_buckets_change_nothing(tmp_path, monkeypatch):
    lines = [f"{n % 7},{1 + 10 * (n % 2)},{1 + n % 5},{950_400_000 + n * 30_000}\n" for n in range(200)]
    text = "userId,movieId,rating,timestamp\n" + "".join(lines)
    src = write_files(tmp_path / "src", "latest", **{"ratings.csv": text})
    import_movielens(src, tmp_path / "one")
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 100)
    monkeypatch.setattr(ratings, "_NUM_BUCKETS", 3)
    import_movielens(src, tmp_path / "two")

    one, two = EventLog(tmp_path / "one"), EventLog(tmp_path / "two")
    assert len(read_rows(one)) == 200
    assert len(one.partitions()) == 70  # 200 ratings, 30,000 seconds apart
    assert one.fingerprint() == two.fingerprint()


BAD_LINES = [
    # data set, file, content, what the message must say
    ("100k", "u.data", "196\t242\t3\n", "u.data, line 1: expected 4 columns"),
    (
        "100k",
        "u.data",
        "196\t242\tgood\t881250949\n",
        "u.data, line 1, rating: expected a number from 0.5 to 5",
    ),
    (
        "100k",
        "u.data",
        "7\t242\t3\t881250949\n",
        "u.data, line 1, userId: expected one that u.user lists, got '7'",
    ),
    ("100k", "u.item", "242|Kolya (1996)|24-Jan-1997\n", "u.item, line 1: expected 24 columns"),
    ("100k", "u.item", f"242|Kolya|||x|2{FLAGS[1:]}\n", "u.item, line 1, unknown: expected 0 or 1, got '2'"),
    (
        "100k",
        "u.user",
        "196|49|M|writer|1\n196|49|M|writer|1\n",
        "u.user, line 2, userId: expected an id that no",
    ),
    ("1m", "ratings.dat", "1::1193::5::978300760\n2::661::3\n", "ratings.dat, line 2: expected 4 columns"),
    ("1m", "users.dat", "1::F::1::10\n", "users.dat, line 1: expected 5 columns"),
    ("1m", "movies.dat", "", "movies.dat: is empty. Expected lines of movieId, title, genres"),
    ("10m", "movies.dat", b"122::Caf\xe9 (1992)::Comedy\n", "movies.dat, line 1, title: expected UTF-8"),
]
BAD_RATINGS_CSV = [
    ("1,1,4.0\n", "line 3: expected 4 columns (userId, movieId, rating, timestamp), got 3: '1,1,4.0'"),
    ("1,1,4.0,964982703,9\n", "line 3: expected 4 columns (userId, movieId, rating, timestamp), got 5"),
    ("1,1,,964982703\n", "line 3, rating: expected a number from 0.5 to 5, got ''"),
    ("1,1,nan,964982703\n", "line 3, rating: expected a number from 0.5 to 5, got 'nan'"),
    ("1,1,-1,964982703\n", "line 3, rating: expected a number from 0.5 to 5, got '-1'"),
    ("1,1,40,964982703\n", "line 3, rating: expected a number from 0.5 to 5, got '40'"),
    (
        "1,1,4.0,-5\n",
        "line 3, timestamp: expected whole seconds since 1970-01-01, of the years 1995 to 2099, got '-5'",
    ),
    ("1,1,4.0,99999999999\n", "line 3, timestamp: expected whole seconds"),  # no nanoseconds reach 5138
    ("1,1,4.0,964982\n", "line 3, timestamp: expected whole seconds"),  # thousands of seconds
    ("1,1,4.0,1.5\n", "line 3, timestamp: expected whole seconds"),
    ("1,1,4.0,964982703000\n", "line 3, timestamp: expected whole seconds"),
    (",1,4.0,964982703\n", "line 3, userId: expected an id, got ''"),
    ("1,99,4.0,964982703\n", "line 3, movieId: expected one that movies.csv lists, got '99'"),
    ("\n1,1,4.0,964982703\n", "line 3, userId: expected an id, got ''"),
    ('1,"1,4.0,964982703\n', "line 3: expected 4 columns"),
]
BAD_CSV = [
    *(
        (
            "latest",
            "ratings.csv",
            "userId,movieId,rating,timestamp\n1,1,4.0,964982703\n" + line,
            f"ratings.csv, {m}",
        )
        for line, m in BAD_RATINGS_CSV
    ),
    ("latest", "ratings.csv", "", "ratings.csv: is empty"),
    ("latest", "ratings.csv", "userId,movieId,rating,timestamp\n", "ratings.csv: is empty"),
    ("latest", "ratings.csv", "1,1,4.0,964982703\n", "ratings.csv, line 1: expected the header"),
    (
        "latest",
        "ratings.csv",
        'userId,movieId,rating,timestamp\n1,1,4.0,"9649\n82703"\n',
        "ratings.csv, line 2: expected 4 columns (userId, movieId, rating, timestamp), got a value with a",
    ),
    (
        "latest",
        "movies.csv",
        b'movieId,title,genres\n1,Toy Story,Comedy\n11,"a, b\xe9",Drama\n',
        "movies.csv, line 3, title: expected UTF-8, got the byte 0xe9",
    ),
    (
        "latest",
        "movies.csv",
        "movieId,title,genres\n1,a,b\n1,c,d\n",
        "movies.csv, line 3, movieId: expected an id",
    ),
    ("latest", "movies.csv", "movieId,title,genres\n1,a\n", "movies.csv, line 2: expected 3 columns"),
]


@pytest.mark.parametrize(("name", "file", "content", "expected"), BAD_LINES + BAD_CSV)
def test_bad_line_is_named_and_nothing_is_left(tmp_path, name, file, content, expected):
    src = write_files(tmp_path / "src", name, **{file: content})
    with pytest.raises(EventLogError) as caught:
        import_movielens(src, tmp_path / "new" / "out")

    assert expected in str(caught.value)
    assert "download" in str(caught.value).lower() or "nothing was written" in str(caught.value)
    assert list(tmp_path.iterdir()) == [src]


def test_line_numbers_count_through_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 50)
    text = "userId,movieId,rating,timestamp\n" + "1,1,4.0,964982703\n" * 40 + "1,1,x,964982703\n"
    src = write_files(tmp_path / "src", "latest", **{"ratings.csv": text})
    with pytest.raises(EventLogError, match=r"ratings.csv, line 42, rating"):
        import_movielens(src, tmp_path / "out")


def test_file_that_is_no_text_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 50)
    src = write_files(tmp_path / "src", "latest", **{"ratings.csv": "x" * 200})
    with pytest.raises(EventLogError, match=r"ratings.csv, line 1: longer than 50 bytes"):
        import_movielens(src, tmp_path / "out")


@pytest.mark.parametrize("missing", ["u.data", "u.item", "u.user"])
def test_incomplete_data_set_names_what_was_found(tmp_path, missing):
    src = write_files(tmp_path / "src", "100k")
    (src / missing).unlink()
    with pytest.raises(EventLogError) as caught:
        import_movielens(src, tmp_path / "out")

    assert "u.data, u.item, u.user (movielens-100k)" in str(caught.value)
    assert f"Found: {', '.join(sorted(set(FILES['100k']) - {missing}))}." in str(caught.value)
    assert list(tmp_path.iterdir()) == [src]


def test_two_data_sets_in_one_directory_are_refused(tmp_path):
    src = write_files(tmp_path / "src", "100k", **FILES["1m"])
    with pytest.raises(EventLogError, match="holds files of more than one data set"):
        import_movielens(src, tmp_path / "out")


def test_missing_directory_is_named(tmp_path):
    with pytest.raises(EventLogError, match="nowhere: no such directory"):
        import_movielens(tmp_path / "nowhere", tmp_path / "out")


@given(
    st.lists(
        st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0")), min_size=3, max_size=3)
    )
)
def test_any_csv_reads_as_it_was_written(tmp_path_factory, rows):
    quoted = [
        ",".join('"' + value.replace('"', '""') + '"' for value in row) for row in [["1", "a", "b"], *rows]
    ]
    path = tmp_path_factory.mktemp("csv") / "movies.csv"
    path.write_bytes("\n".join(["movieId,title,genres", *quoted]).encode())
    table = read_all_lines(path, Layout(("movieId", "title", "genres"), has_header=True)).table

    assert [list(row.values()) for row in table.to_pylist()[1:]] == rows

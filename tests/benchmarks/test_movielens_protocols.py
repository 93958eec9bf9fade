"""What is held out, what is counted, and that nothing held out is known to a model."""

from pipelines import tensorflow_setup  # noqa: F401, I001  (before TensorFlow)

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from benchmarks.movielens.data import HeldOutData, mean_metrics
from benchmarks.movielens.protocols import (
    LAST_OUT,
    RANDOM_SPLIT,
    compute_ranks,
    count_last_out,
    hold_out_last,
    split_at_random,
)
from benchmarks.movielens.ratings import MovieLens, Ratings, read_movielens
from benchmarks.movielens.rows import (
    HISTORY_AGE,
    TIME_BUCKET,
    find_earlier,
    find_newest,
    find_others,
    fit_row_maker,
)
from schemas.features import Role
from trainers.layers.feature_embedding import PADDING
from trainers.preprocessing import USER_KEY
from trainers.retrieval.model import HISTORY_ITEM_INDEX, ITEM_INDEX, USER_INDEX


def make_ratings(*rows):
    return Ratings(*np.array(rows, np.int64).T)


@pytest.fixture
def ratings():
    """Twenty users who rated 1 to 20 of thirty items, in an order that is not the file's."""
    rng = np.random.default_rng(0)
    rows = [
        (user, item, rng.integers(1000)) for user in range(20) for item in rng.permutation(30)[: user + 1]
    ]
    return make_ratings(*rng.permutation(rows))


@pytest.fixture
def movielens(ratings):
    users = pd.DataFrame({"user_id": [f"u{n}" for n in range(20)], "gender": ["F", "M"] * 10})
    titles = [f"Film {n % 7} of {n}" for n in range(30)]
    genres = [["Drama", "War"][: n % 3] for n in range(30)]
    items = pd.DataFrame({"title": titles, "release_year": 1970 + np.arange(30), "genres": genres})
    return MovieLens("toy", ratings, users, items)


def as_rows(ratings):
    return list(zip(ratings.users.tolist(), ratings.items.tolist(), ratings.seconds.tolist(), strict=True))


def test_films_of_one_title_are_one_item(tmp_path):
    (tmp_path / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n2,9,1.0,964982703\n1,7,4.0,964982700\n1,8,3.5,964982800\n"
    )
    (tmp_path / "movies.csv").write_text(
        "movieId,title,genres\n7,Twin (1995),Drama\n8,Alone (1995),War|Drama\n9,Twin (1995),Drama\n"
        "10,Twin (1996),War\n"
    )
    read = read_movielens(tmp_path)

    assert read.items["title"].tolist() == ["Alone (1995)", "Twin (1995)", "Twin (1996)"]
    assert [list(genres) for genres in read.items["genres"]] == [["War", "Drama"], ["Drama"], ["War"]]
    users = read.users["user_id"].to_numpy()[read.ratings.users]
    # In the file's order; both Twins of 1995 are item 1.
    assert list(zip(users, read.ratings.items, read.ratings.seconds, strict=True)) == [
        ("2", 1, 964982703),
        ("1", 1, 964982700),
        ("1", 0, 964982800),
    ]
    assert read.fingerprint() == read_movielens(tmp_path).fingerprint()


def test_the_random_split_is_four_fifths_and_everything_once(ratings):
    split = split_at_random(ratings)
    assert (len(split.train), len(split.asked)) == (168, 42)
    assert sorted(as_rows(split.train) + as_rows(split.asked)) == sorted(as_rows(ratings))
    assert as_rows(split_at_random(ratings).asked) == as_rows(split.asked)
    assert set(split.asked.users) > set(range(15, 20))  # shuffled, not cut


def test_the_last_rating_is_held_out_by_time_and_then_by_the_files_order():
    split = hold_out_last(
        make_ratings((0, 5, 30), (0, 6, 10), (1, 7, 20), (0, 8, 30), (1, 9, 10), (2, 5, 1), (1, 4, 15))
    )
    # User 0 rated 5 and 8 at once, 8 later in the file; user 2 has no past.
    assert sorted(as_rows(split.asked)) == [(0, 8, 30), (1, 7, 20)]
    assert as_rows(split.train) == [(0, 5, 30), (0, 6, 10), (1, 9, 10), (2, 5, 1), (1, 4, 15)]
    assert sorted(as_rows(hold_out_last(split.train).asked)) == [(0, 5, 30), (1, 4, 15)]


def test_ranks_by_hand():
    scores = np.array([[3.0, 2, 1, 0], [1, 1, 0, 1], [0, 5, 4, 3], [np.nan, 1, 2, 3]])
    targets = np.array([2, 0, 3, 0])
    assert compute_ranks(scores, targets, None).tolist() == [2, 2, 2, 3]  # ties and NaN are no hits
    seen = sparse.csr_matrix([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
    assert compute_ranks(scores, targets, seen).tolist() == [1, 1, np.inf, 3]


def test_recall_and_ndcg_by_hand():
    counted = count_last_out(
        {"removed": np.array([0.0, 9, 10, 19, 20, 99, 100, np.inf]), "kept": np.zeros(8)}
    )
    assert {name: values.sum() for name, values in counted.items()} == {
        "recall_10": 2,
        "recall_20": 4,
        "recall_100": 6,
        "ndcg_10": pytest.approx(1 + 1 / np.log2(11)),
    }


class Oracle:
    """Puts what a user rated in training first, then what is asked, then the rest."""

    def __init__(self, data):
        shape = (len(data.movielens.users), len(data.movielens.items))
        self._scores = np.random.default_rng(0).random(shape)
        self._scores[data.test.asked.users, data.test.asked.items] += 1
        self._scores[data.test.train.users, data.test.train.items] += 2

    def score(self, users, seconds):
        return self._scores[users]


def test_seen_items_are_removed_from_one_column_and_kept_in_the_other(movielens):
    data = HeldOutData(movielens, RANDOM_SPLIT)
    table = data.measure(Oracle(data), "test")
    assert table["queries"].sum() == 42
    assert table["user_id"].is_unique
    means = mean_metrics(table)
    assert means["removed_top_10"] == means["kept_top_100"] == 1.0
    # Ten seen items fill the first ten places of whoever has them.
    num_seen = np.bincount(data.test.train.users, minlength=20)[data.test.asked.users]
    assert means["kept_top_10"] <= np.mean(num_seen < 10)
    assert means["kept_top_10"] < 1.0


@pytest.mark.parametrize("protocol", [RANDOM_SPLIT, LAST_OUT])
def test_no_rating_is_asked_and_trained_on(movielens, protocol):
    data = HeldOutData(movielens, protocol)
    for split in (data.test, data.validation):
        assert len(split.asked)
        assert not set(as_rows(split.train)) & set(as_rows(split.asked))
    assert set(as_rows(data.validation.train)) < set(as_rows(data.test.train))
    assert set(as_rows(data.validation.asked)) < set(as_rows(data.test.train))


@pytest.mark.parametrize("size", [1, 4, 40])
def test_earlier_ratings_are_earlier_and_none_is_missing(ratings, size):
    places = find_earlier(ratings, size)
    for row, found in enumerate(places):
        same = np.flatnonzero(ratings.users == ratings.users[row])
        before = [n for n in same if (ratings.seconds[n], n) < (ratings.seconds[row], row)]
        before = sorted(before, key=lambda n: (ratings.seconds[n], n))[-size:]
        assert found.tolist() == [PADDING] * (size - len(before)) + before


@pytest.mark.parametrize("size", [1, 4, 40])
def test_other_ratings_are_the_users_and_never_the_row_itself(ratings, size):
    places = find_others(ratings, size, seed=1)
    for row, found in enumerate(places):
        others = set(np.flatnonzero(ratings.users == ratings.users[row])) - {row}
        given = found[found != PADDING]
        assert len(set(given)) == len(given) == min(size, len(others))
        assert set(given) <= others
    drawn = {tuple(sorted(found)) for found in places[ratings.users == 19]}
    assert len(drawn) == 20  # a part of its own for each


def test_the_newest_ratings_of_each_user(ratings):
    assert find_newest(make_ratings((0, 5, 3), (2, 6, 9), (0, 7, 1), (0, 8, 2)), 3, 2).tolist() == [
        [3, 0],
        [PADDING, PADDING],
        [PADDING, 1],
    ]
    assert find_newest(ratings, 20, 100).shape == (20, 20)


@pytest.mark.parametrize("protocol", [RANDOM_SPLIT, LAST_OUT])
def test_held_out_ratings_are_in_no_row_and_no_history(movielens, protocol):
    """What would be there if the rows were made of all ratings, and is not."""
    data = HeldOutData(movielens, protocol)
    train = data.test.train
    maker = fit_row_maker(movielens, train, with_time=False)
    find = find_earlier(train, 40) if protocol.is_causal else find_others(train, 40, 1)
    rows = {
        name: np.concatenate(
            [batch[name] for batch in maker.make_rows(train, train, find).as_numpy_iterator()]
        )
        for name in (USER_INDEX, ITEM_INDEX, HISTORY_ITEM_INDEX, USER_KEY)
    }
    assert len(rows[USER_KEY]) == len(train)
    index = maker.items[ITEM_INDEX]
    asked = {(user, index[item]) for user, item, _ in as_rows(data.test.asked)}
    known = {(user, item) for user, item in zip(rows[USER_KEY], rows[ITEM_INDEX], strict=True)}
    known |= {(u, i) for u, row in zip(rows[USER_KEY], rows[HISTORY_ITEM_INDEX], strict=True) for i in row}
    assert not asked & known
    # The item of the row is not in its own history: nobody rates an item twice here.
    assert not (rows[HISTORY_ITEM_INDEX] == rows[ITEM_INDEX][:, np.newaxis]).any()
    assert (rows[HISTORY_ITEM_INDEX] > 0).any()

    asked_users = data.test.asked.users
    newest = find_newest(train, 20, 40)
    query = maker.make_queries(asked_users, data.test.asked.seconds, train, newest[asked_users])
    own = index[data.test.asked.items][:, np.newaxis]
    assert not ((query[HISTORY_ITEM_INDEX] == own) & (own > 0)).any()
    assert ((query[HISTORY_ITEM_INDEX] != PADDING).sum(axis=1) == np.bincount(train.users)[asked_users]).all()


def test_the_vocabularies_are_the_training_ratings(movielens):
    train = movielens.ratings.take(movielens.ratings.items < 10)
    maker = fit_row_maker(movielens, train, with_time=False)
    index = maker.items[ITEM_INDEX]
    assert index[10:].tolist() == [0] * 20
    assert sorted(index[:10]) == list(range(1, 11))
    assert {TIME_BUCKET, HISTORY_AGE}.isdisjoint(x.name for x in maker.features)
    for feature in maker.features:
        columns = {**maker.users, **maker.items}
        if feature.name in columns:
            assert columns[feature.name].max() < feature.size
    tokens = maker.items["title_tokens"]
    assert (tokens[:7, 0] > 0).all() and (tokens[10:, 3] == 0).all()  # "film" is known, "of 10" is not


def test_a_feature_without_a_value_is_left_out(movielens, ratings):
    def list_features(**columns):
        items = movielens.items.assign(**columns)
        maker = fit_row_maker(dataclasses.replace(movielens, items=items), ratings, with_time=False)
        assert set(maker.items) == {x.name for x in maker.features if x.role is Role.CANDIDATE}
        return set(maker.items)

    every = {ITEM_INDEX, "release_year_bucket", "genres_index", "title_tokens"}
    assert list_features() == every
    assert list_features(release_year=np.nan) == every - {"release_year_bucket"}
    assert list_features(genres=[[]] * 30) == list_features(genres=None) == every - {"genres_index"}
    assert list_features(title="?") == every - {"title_tokens"}


def test_genres_of_films_that_nobody_rated_are_no_vocabulary(movielens):
    items = movielens.items.assign(genres=[[]] * 29 + [["War"]])
    train = movielens.ratings.take(movielens.ratings.items < 29)
    maker = fit_row_maker(dataclasses.replace(movielens, items=items), train, with_time=False)
    assert "genres_index" not in maker.items


def test_with_time_a_query_knows_how_far_its_history_lies():
    past = make_ratings((0, 0, 100), (0, 1, 1000))
    users = pd.DataFrame({"user_id": ["u"]})
    items = pd.DataFrame({"title": ["A", "B"], "release_year": [1990, 1991], "genres": [["X"], ["X"]]})
    maker = fit_row_maker(MovieLens("toy", past, users, items), past, with_time=True)
    query = maker.make_queries(np.array([0, 0]), np.array([1000, 96]), past, np.array([[0, 1], [0, PADDING]]))
    # 900 s and 0 s before: 2^9 and 2^0; 4 s after: -2^2.
    assert query[HISTORY_AGE].tolist() == [[33 + 9, 33], [33 - 3, PADDING]]
    assert (query[TIME_BUCKET] > 0).all()

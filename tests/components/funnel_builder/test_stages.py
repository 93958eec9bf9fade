"""The order of candidates in the package against the pair scorer of the model it was made of, by stage."""

import numpy as np
import pytest
import tensorflow as tf

from components.flavours import FLAVOURS, package_dir
from components.index_builder.package import MAX_ROWS
from schemas import features as f

SMALLEST = np.finfo(np.float32).min
ITEMS = [b"i%02d" % i for i in range(60)]


@pytest.fixture(scope="module")
def signatures(funnel):
    return tf.saved_model.load(package_dir(funnel, FLAVOURS[0])).signatures


@pytest.fixture(scope="module")
def scorers(models):
    """The pair scorers by stage."""
    path, _ = models
    loaded = {name: tf.saved_model.load(str(path / name)) for name in ("student", "ranker")}
    return {name: model.signatures["score_examples"] for name, model in loaded.items()}, loaded


@pytest.fixture
def rank_by_pairs(stage, models, scorers, make_example):
    """(queries, candidates) -> each query's candidates once, best first, as (item, probabilities)."""
    vectors = dict(zip(ITEMS, models[1][stage.item], strict=True))
    score = scorers[0][stage.model]

    def rank(queries, candidates):
        answers = []
        for query, items in zip(queries, candidates, strict=True):
            known = sorted({item for item in items if item in vectors})
            pairs = [make_example(**{stage.query: query, stage.item: vectors[item]}) for item in known]
            scores = score(examples=tf.constant(pairs, tf.string))
            assert set(scores) == set(stage.tasks)
            by_task = np.stack([scores[task].numpy() for task in stage.tasks], axis=1)
            order = np.argsort(-by_task[:, 0], kind="stable")[: stage.depth]
            answers.append([(known[i], by_task[i]) for i in order])
        return answers

    return rank


@pytest.fixture
def ask(stage, signatures, make_example):
    """(queries, candidates [B, M]) -> the answers by raw features and by tf.Examples."""

    def ask(queries, candidates):
        queries = np.asarray(queries, np.float32)
        examples = [make_example(**{stage.query: query}) for query in queries]
        ids = tf.constant(candidates, tf.string, shape=np.shape(candidates))
        return (
            signatures[stage.name](**{stage.query: queries}, candidate_item_id=ids),
            signatures[f"{stage.name}_examples"](
                examples=tf.constant(examples, tf.string, shape=(len(queries),)), candidate_item_id=ids
            ),
        )

    return ask


def assert_answer(answer, expected, tasks):
    assert set(answer) == {f.ITEM_ID, *tasks}
    ids = answer[f.ITEM_ID].numpy()
    scores = np.stack([answer[task].numpy() for task in tasks], axis=2)
    for row, pairs in enumerate(expected):
        count = len(pairs)
        assert ids[row].tolist() == [item for item, _ in pairs] + [b""] * (ids.shape[1] - count)
        wanted = np.reshape([probabilities for _, probabilities in pairs], [count, len(tasks)])
        np.testing.assert_allclose(scores[row, :count], wanted, rtol=0, atol=1e-5)
        assert (scores[row, count:] == SMALLEST).all()


def draw_queries(rng, stage, rows, models):
    return rng.normal(size=(rows, models[1][stage.query].shape[1])).astype(np.float32)


def draw_candidates(rng, rows, width):
    """Ids in any order, some twice, some of strangers, some empty."""
    return np.array(rng.choice([*ITEMS, b"stranger", b"", b""], (rows, width)), object)


@pytest.mark.parametrize(
    ("rows", "width"), [(1, 1), (1, 40), (7, 40), (3, 4), (3, 200), (2, 0), (0, 5), (0, 0)]
)
def test_candidates_are_ranked_as_the_pair_scorer_ranks_them(stage, ask, rank_by_pairs, models, rows, width):
    rng = np.random.default_rng(rows + width)
    queries, candidates = draw_queries(rng, stage, rows, models), draw_candidates(rng, rows, width)
    wanted = rank_by_pairs(queries, candidates)
    for answer in ask(queries, candidates):
        assert answer[f.ITEM_ID].shape == (rows, min(width, stage.depth))
        assert_answer(answer, wanted, stage.tasks)


def test_the_order_of_the_candidates_changes_nothing(stage, ask, rank_by_pairs, models):
    query = np.zeros((1, models[1][stage.query].shape[1]), np.float32)  # many probabilities are equal
    wanted = rank_by_pairs(query, [ITEMS])
    for candidates in (ITEMS, ITEMS[::-1]):
        for answer in ask(query, [candidates]):
            assert_answer(answer, wanted, stage.tasks)


def test_no_candidate_that_is_known_gives_empty_places(stage, ask, models):
    query = np.ones((1, models[1][stage.query].shape[1]), np.float32)
    for answer in ask(query, [[b"stranger", b"", b"i99"]]):
        assert answer[f.ITEM_ID].shape == (1, 3)
        assert_answer(answer, [[]], stage.tasks)


def test_a_probability_that_is_nan_is_no_place(stage, ask, rank_by_pairs, models):
    queries = draw_queries(np.random.default_rng(3), stage, 2, models)
    queries[0] = np.nan
    _, wanted = rank_by_pairs(queries, [[], ITEMS])
    for answer in ask(queries, [ITEMS, ITEMS]):
        assert_answer(answer, [[], wanted], stage.tasks)


def test_pairs_are_scored_as_the_model_itself_scores_them(stage, signatures, scorers, models, make_example):
    rng = np.random.default_rng(5)
    rows = [draw_queries(rng, stage, 4, models), models[1][stage.item][:4]]
    examples = tf.constant(
        [make_example(**{stage.query: query, stage.item: item}) for query, item in zip(*rows, strict=True)]
    )
    answer, wanted = (
        function(examples=examples)
        for function in (signatures[f"{stage.name}_score_examples"], scorers[0][stage.model])
    )
    assert answer.keys() == wanted.keys() == set(stage.tasks)
    for task in stage.tasks:
        np.testing.assert_array_equal(answer[task], wanted[task])


def test_users_vectors_are_the_students(signatures, scorers, make_example):
    examples = tf.constant([make_example(user=np.arange(6.0) + i) for i in range(3)])
    wanted = scorers[1]["student"].signatures["user_vector"](examples=examples)["vectors"]
    np.testing.assert_array_equal(signatures["prerank_user_vector"](examples=examples)["vectors"], wanted)


def refuse(stage, signatures, make_example, rows, candidate_ids):
    """What the stage's signatures say of a request."""
    width = signatures[stage.name].structured_input_signature[1][stage.query].shape[1]
    for name, inputs in (
        (stage.name, {stage.query: tf.zeros([rows, width])}),
        (
            f"{stage.name}_examples",
            {"examples": tf.fill([rows], make_example(**{stage.query: [0.0] * width}))},
        ),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError) as caught:
            signatures[name](candidate_item_id=candidate_ids, **inputs)
        yield str(caught.value)


@pytest.mark.parametrize(("rows", "candidate_rows"), [(2, 1), (1, 2), (0, 2), (MAX_ROWS + 1, MAX_ROWS + 1)])
def test_rows_that_differ_or_are_too_many_are_refused(stage, signatures, make_example, rows, candidate_rows):
    ids = tf.fill([candidate_rows, 3], "i00")
    for message in refuse(stage, signatures, make_example, rows, ids):
        assert f"expected equally many rows of each, {MAX_ROWS} at most" in message


def test_candidates_beyond_the_limits_are_refused(stage, signatures, make_example):
    most, in_all = stage.max_candidates, stage.max_pairs
    too_wide, too_many = (1, most + 1), (512, in_all // 512 + 1)
    for shape in (too_wide, too_many):
        for message in refuse(stage, signatures, make_example, shape[0], tf.fill(shape, "i00")):
            wanted = f"candidate_item_id: expected {most} at most a row and {in_all} in all, got"
            assert f"{wanted}] [{shape[0]} {shape[1]}]" in message


def test_the_largest_requests_are_answered(stage, ask, models):
    for rows, width in ((1, stage.max_candidates), (MAX_ROWS, stage.max_pairs // MAX_ROWS)):
        ids = [[ITEMS[i % len(ITEMS)] for i in range(width)]] * rows
        for answer in ask(np.zeros((rows, models[1][stage.query].shape[1])), ids):
            assert answer[f.ITEM_ID].shape == (rows, min(stage.depth, width))

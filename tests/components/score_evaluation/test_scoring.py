import numpy as np
import pytest

from components.score_evaluation.scoring import ScoredRows, ScoreError, ScoreRows, find_scorer, to_extracts


@pytest.fixture(scope="module")
def scorer(make_scorer):
    return make_scorer("toy", "clicked")


@pytest.fixture
def score(scorer, encode):
    """Scores rows whose probabilities are given."""

    def run(probabilities):
        n = len(probabilities)
        examples = encode(
            {
                "user_id": ["u"] * n,
                "request_id": ["r"] * n,
                "clicked": [0] * n,
                "converted": [0] * n,
                "toy_clicked": probabilities,
            }
        )
        rows = ScoreRows({"toy": scorer}, ["gender"])
        rows.setup()
        (scored,) = rows.process(examples)
        return scored

    return run


def test_rows_are_scored_in_their_order(score):
    scored = score([0.5, 0.0, 1.0])
    assert scored.scores["toy"]["clicked"].tolist() == [0.5, 0.0, 1.0]
    assert scored.slices["gender"].tolist() == ["", "", ""]  # a feature that the rows lack


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -0.01, 1.01])
def test_a_score_that_is_no_probability_names_the_model(score, bad):
    with pytest.raises(ScoreError, match=r"the toy model's clicked: .* got 1 others among \(2,\)"):
        score([0.5, bad])


def test_a_scorer_is_found_by_its_signature(scorer, tmp_path):
    assert find_scorer(scorer.path, "score_examples") == scorer
    assert find_scorer(scorer.path, "prerank_score_examples") is None  # as of an older push
    assert find_scorer(str(tmp_path), "score_examples") is None  # nothing is live


def test_an_extract_holds_the_rows_of_the_same_slices():
    rows = ScoredRows(
        users=np.arange(6),
        requests=np.arange(6),
        labels={"clicked": np.array([0, 1, 0, 1, 0, 1]), "converted": np.array([0, 1, 0, 0, 0, 0])},
        slices={"a": np.array(["x", "y", "x", "y", "x", ""]), "b": np.array(["1", "1", "2", "1", "1", "1"])},
        scores={"m": {"clicked": np.arange(6) / 10}},
    )
    found = {tuple(e["features"]["user_id"]): e for e in to_extracts(rows)}
    assert found.keys() == {(0, 4), (1, 3), (2,), (5,)}
    extract = found[1, 3]
    assert (extract["features"]["a"], extract["features"]["b"]) == (["y"], ["1"])
    assert extract["labels"]["converted"].tolist() == [1, 0]
    assert extract["predictions"]["m"]["clicked"].tolist() == [0.1, 0.3]
    assert "a" not in found[5,]["features"]  # a value that is missing is in no slice
    assert found[0, 4]["example_weights"]["converted"].tolist() == [0, 0]

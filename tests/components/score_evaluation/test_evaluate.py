"""One run of TFMA on toy scorers whose probabilities are known, held against the definitions."""

import json

import apache_beam as beam
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma

from components.score_evaluation.evaluate import (
    METRICS_FILE,
    SCORES_FILE,
    evaluate_scorers,
    find_slice_features,
)
from components.score_evaluation.metrics import compute_auc, compute_gauc

NUM_ROWS = 400


@pytest.fixture(scope="module")
def rows():
    """Rows of 20 users, in requests of four; a request has a device, a user a gender, if any."""
    rng = np.random.default_rng(0)
    requests = np.arange(NUM_ROWS) // 4
    users = rng.integers(20, size=NUM_ROWS // 4)[requests]
    clicked = (rng.random(NUM_ROWS) < 0.3).astype(int)
    clicked[users == 3] = 0
    candidate = rng.random(NUM_ROWS) * 0.8 + 0.2 * clicked
    return pd.DataFrame(
        {
            "user_id": [f"u{user}" for user in users],
            "request_id": [f"r{request}" for request in requests],
            "clicked": clicked,
            "converted": clicked * (rng.random(NUM_ROWS) < 0.5),
            "gender": np.array(["f", "männlich", ""])[users % 3],
            "device": np.array(["ios", "android"])[requests % 2],
            "history_item_id": [["i"] * n for n in np.array([0, 5, 30, 50])[requests % 4]],
            "candidate_clicked": candidate.astype(np.float32),
            "candidate_converted": rng.random(NUM_ROWS).astype(np.float32),
            "constant_clicked": np.full(NUM_ROWS, 0.25, np.float32),
            "sure_clicked": clicked.astype(np.float32),
        }
    )


@pytest.fixture(scope="module")
def scorers(make_scorer):
    return {
        "candidate": make_scorer("candidate", "clicked", "converted"),
        "constant": make_scorer("constant", "clicked"),
        "sure": make_scorer("sure", "clicked"),
    }


@pytest.fixture(scope="module")
def evaluated(rows, scorers, encode, tmp_path_factory):
    """The folder and the report of a run over two files."""
    folder = tmp_path_factory.mktemp("evaluation")
    (folder / "impressions" / "Split-test").mkdir(parents=True)
    examples = encode(rows.to_dict("list"))
    for number, part in enumerate(np.split(examples, [260])):
        path = folder / "impressions" / "Split-test" / f"data-{number}.gz"
        with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
            for example in part:
                writer.write(example)
    output = str(folder / "output")
    report = evaluate_scorers(
        scorers,
        str(folder / "impressions"),
        ("gender", "device"),
        output,
        beam.Pipeline(),
        drawn_per_click=3,
    )
    return folder / "output", report


def find_slices(rows):
    """Which rows [n] are in each slice."""
    clicks = rows["history_item_id"].map(len)
    return {
        "all": clicks >= 0,
        "gender=f": rows["gender"] == "f",
        "gender=männlich": rows["gender"] == "männlich",
        "device=ios": rows["device"] == "ios",
        "device=android": rows["device"] == "android",
        "history_clicks=0": clicks == 0,
        "history_clicks=1-9": clicks == 5,
        "history_clicks=10-49": clicks == 30,
        "history_clicks=50+": clicks == 50,
    }


def compute_expected(rows, model, label):
    users = np.unique(rows["user_id"], return_inverse=True)[1]
    labels, scores = rows[label].to_numpy(), rows[f"{model}_{label}"].to_numpy().astype(float)
    of_label = np.where(labels == 1, scores, 1 - scores)
    return {
        "auc": compute_auc(labels, scores),
        "gauc": compute_gauc(users, labels, scores).value,
        "log_loss": -np.mean(np.log(of_label)),
        "calibration": scores.mean() / labels.mean(),
        "rows": len(rows),
        "users": users.max() + 1,
    }


def test_every_slice_is_measured_on_its_own_rows(rows, evaluated):
    """GAUC of `device` too, which is of the requests and not of the users."""
    found = evaluated[1]["models"]["candidate"]
    slices = find_slices(rows)
    assert found.keys() == slices.keys() and next(iter(found)) == "all"
    for name, mask in slices.items():
        assert found[name] == pytest.approx(compute_expected(rows[mask], "candidate", "clicked")), name


def test_conversions_are_measured_on_clicked_rows_of_models_that_predict_them(rows, evaluated):
    assert evaluated[1]["converted"].keys() == {"candidate"}
    found = evaluated[1]["converted"]["candidate"]
    for name, mask in find_slices(rows).items():
        clicked = rows[mask & (rows["clicked"] == 1)]
        assert found[name] == pytest.approx(compute_expected(clicked, "candidate", "converted")), name


def test_constant_scores_have_auc_one_half(rows, evaluated):
    found = evaluated[1]["models"]["constant"]["all"]
    assert (found["auc"], found["gauc"]) == (0.5, 0.5)
    assert found["calibration"] == pytest.approx(0.25 / rows["clicked"].mean())


def test_a_probability_of_one_is_no_infinite_loss(evaluated):
    found = evaluated[1]["models"]["sure"]["all"]
    assert (found["auc"], found["gauc"], found["log_loss"]) == (1.0, 1.0, 0.0)


def test_the_report_says_what_it_is_of(rows, evaluated):
    output, report = evaluated
    users = rows.groupby("user_id")["clicked"]
    dropped = users.nunique() < 2
    assert dropped.any()
    assert report["split"] == "test"
    assert report["drawn_per_click"] == 3
    assert (report["num_rows"], report["num_users"], report["num_requests"]) == (NUM_ROWS, 20, 100)
    assert report["dropped_users_share"] == pytest.approx(dropped.mean())
    assert report["dropped_rows_share"] == pytest.approx(users.size()[dropped].sum() / NUM_ROWS)
    assert json.loads((output / METRICS_FILE).read_text()) == report


def test_the_scores_are_kept_row_by_row_in_a_few_bytes(rows, evaluated):
    output, report = evaluated
    scores = pd.read_parquet(output / SCORES_FILE)
    types = {"user": "int32", "request": "int32", "clicked": "int8"}
    models = {name: "float32" for name in ("candidate", "constant", "sure")}
    assert scores.dtypes.astype(str).to_dict() == types | models
    assert sorted(scores["candidate"]) == sorted(rows["candidate_clicked"])
    users, labels, values = (scores[x].to_numpy() for x in ("user", "clicked", "candidate"))
    assert compute_gauc(users, labels, values).value == pytest.approx(
        report["models"]["candidate"]["all"]["gauc"]
    )


def test_tfma_reads_what_was_written(evaluated):
    output, report = evaluated
    result = tfma.load_eval_result(str(output), model_name="candidate")
    (values,) = [metrics for key, metrics in result.slicing_metrics if key == ()]
    assert values["clicked"][""]["auc"]["doubleValue"] == report["models"]["candidate"]["all"]["auc"]


def test_a_split_without_rows_is_refused(scorers, tmp_path):
    with pytest.raises(ValueError, match="the test split holds no row"):
        evaluate_scorers(
            scorers, str(tmp_path), (), str(tmp_path / "output"), beam.Pipeline(), drawn_per_click=0
        )


@pytest.mark.parametrize(
    ("schema", "features"),
    [("core", []), ("marketplace", ["gender", "device"]), ("movielens", ["gender"]), ("amazon", [])],
)
def test_a_source_has_the_slices_of_its_features(schema, features):
    assert find_slice_features(schema) == features

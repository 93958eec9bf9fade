"""What is measured, and what the component writes of it."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from tfx.types import standard_artifacts

from components.flavours import BRUTE_FORCE, SCANN, package_dir
from components.retrieval_evaluator.component import RetrievalEvaluator
from components.retrieval_evaluator.evaluate import (
    METRICS_FILE,
    PAIRS_PER_USER_FILE,
    PER_USER_FILE,
    NoQueriesError,
    measure,
)
from components.retrieval_evaluator.rankers import RandomRanker


def test_only_clicks_ask(world):
    test = [{"item": "i05", "timestamp": 5, "clicked": 0}, {"item": "i06", "timestamp": 5}]
    queries = world.make_queries((), test)
    metrics, about = measure({"random": RandomRanker()}, queries)
    assert len(metrics["random"]["recall_10"]) == len(about["user"]) == 1


def test_a_split_of_repeats_alone_is_refused(world):
    train = [{"item": "i01", "timestamp": 1}]
    with pytest.raises(NoQueriesError, match="exclude_seen"):
        measure({}, world.make_queries(train, [{"item": "i01", "timestamp": 6}]))


@pytest.mark.parametrize(("exclude_seen", "asked"), [(True, ["u0", "u1"]), (False, ["u0", "u0", "u1"])])
@pytest.mark.parametrize("has_pair", [True, False])
def test_the_component_asks_no_repeat_where_seen_items_are_left_out(
    world, tmp_path, exclude_seen, asked, has_pair
):
    pair = {"history": ["i02"], "known_at": [4]} if has_pair else {}
    item_vectors = np.zeros((world.num_items, world.width))
    item_vectors[:, 0] = -np.arange(world.num_items)  # the first item is the best
    artifacts = {
        name: standard_artifacts.Model() if name in ("packages", "live") else standard_artifacts.Examples()
        for name in ("packages", "live", "transform_graph", "impressions", "items")
    }
    evaluation = standard_artifacts.ModelEvaluation()
    for name, artifact in {**artifacts, "evaluation": evaluation}.items():
        artifact.uri = str(tmp_path / name)
    artifacts["items"].split_names = '["catalogue"]'
    world.make_queries(
        train=[{"user": "u0", "item": item, "timestamp": 1} for item in ("i00", "i01")],
        test=[
            {"user": "u0", "item": "i01", "timestamp": 5},  # clicked before
            {"user": "u0", "item": "i03", "timestamp": 5, **pair},
            {"user": "u1", "item": "i01", "timestamp": 5},  # clicked before by u0 alone
        ],
    )
    path = world.save_package(item_vectors, np.eye(1, world.width).repeat(2, axis=0))
    for flavour in (BRUTE_FORCE, SCANN):
        shutil.copytree(path, package_dir(artifacts["packages"].uri, flavour))

    RetrievalEvaluator.EXECUTOR_SPEC.executor_class().Do(
        {name: [artifact] for name, artifact in artifacts.items()},
        {"evaluation": [evaluation]},
        {"exclude_seen": int(exclude_seen), "session_gap_seconds": 2048, "code_fingerprint": ""},
    )

    report = json.loads((tmp_path / "evaluation" / METRICS_FILE).read_text())
    assert report["num_queries"] == len(asked)
    assert report["num_repeats"] == 3 - len(asked)
    assert report["index"] == {"candidate": {"depth": world.num_items, "recall": 1.0, "similar_recall": 1.0}}
    assert set(report["models"]) == {"candidate", "popularity", "random"}
    for name, slices in report["models"].items():  # what the lineage shows
        recorded = evaluation.get_json_value_custom_property(name)
        assert recorded == {metric: slices["all"][metric] for metric in ("recall_100", "ndcg_10")}
    table = pd.read_parquet(tmp_path / "evaluation" / PER_USER_FILE)
    assert sorted(table.user_id) == sorted(["u0", "u1"] * 3)  # a row per model and user
    candidate = table[table.model == "candidate"].set_index("user_id")
    assert candidate.queries.to_dict() == {user: asked.count(user) for user in asked}
    # u0: i03 is the second once i00 and i01 are out, else the fourth and i01 the second. u1: i01 is second.
    # With i02 in the history, whose vector is twice the user's and the opposite, the order is turned round.
    own = 1 / 37 if has_pair else 1 / 2 if exclude_seen else 1 / 4
    expected = {"u0": own if exclude_seen else (1 / 2 + own) / 2, "u1": 1 / 2}
    assert candidate.mrr.to_dict() == pytest.approx(expected)
    if not has_pair:
        assert report["item_to_item"] is None
        assert not (tmp_path / "evaluation" / PAIRS_PER_USER_FILE).exists()
        return
    pairs = report["item_to_item"]
    assert pairs["num_queries"] == pairs["num_users"] == 1
    table = pd.read_parquet(tmp_path / "evaluation" / PAIRS_PER_USER_FILE).set_index("model")
    # Neither may answer with i02, the anchor. By its vector i39 is the best and i03 the 37th; by clicks the
    # order is that of the ids.
    expected = {"candidate": 1 / 37, "popularity": 1 if exclude_seen else 1 / 3}
    assert table.mrr.drop("random").to_dict() == pytest.approx(expected)
    num_left = 37 if exclude_seen else 39
    harmonic = np.mean(1 / np.arange(1, num_left + 1))
    assert table.mrr["random"] == pytest.approx(harmonic, rel=1e-4)  # the ranker's formula is asymptotic

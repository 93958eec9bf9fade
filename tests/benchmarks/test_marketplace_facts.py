import json
import sys

import numpy as np
import pandas as pd
import pytest

from benchmarks import marketplace_facts
from sources.marketplace import MarketplaceConfig, simulate


def test_auc_by_hand():
    labels = np.array([False, True, False, True])
    # Of four pairs two are in order, one is not, one is tied.
    assert marketplace_facts.compute_auc(np.array([1.0, 2.0, 2.0, 1.5]), labels) == 2.5 / 4


def test_counts_know_nothing_of_their_own_request_and_later():
    hours = pd.to_datetime([1, 2, 2, 3, 4], unit="h", utc=True)
    rows = pd.DataFrame({"user_id": list("aaaba"), "shop_id": list("sstss"), "timestamp": hours})
    count = marketplace_facts._count_before(rows, rows, ["user_id", "shop_id"])
    assert count.tolist() == [0, 1, 0, 0, 2]

    counter = marketplace_facts._ClickCounter(rows, "shop_id")
    first, end = np.array([0, 0, 0, 0, 1]), np.array([0, 1, 1, 0, 3])
    # The last row: of a's clicks numbered 1 and 2, in s and t, one is in s.
    assert counter.count(rows, first, end).tolist() == [0, 1, 0, 0, 1]


def test_facts_of_a_log_agree_with_its_summary(tmp_path, monkeypatch, capsys):
    config = MarketplaceConfig(
        num_users=150, num_items=400, num_shops=60, num_days=5, requests_per_user_day=4.0
    )
    summary = simulate(config, tmp_path / "log")
    monkeypatch.setattr(sys, "argv", ["marketplace_facts", str(tmp_path / "log")])
    marketplace_facts.main()
    facts = json.loads(capsys.readouterr().out)

    assert facts["summary"]["num_clicks"] == summary.num_clicks
    assert facts["auc"]["all effects"] == pytest.approx(summary.oracle_auc, abs=1e-4)
    auc = facts["auc"]
    assert auc["all effects"] > auc["item and position"] > auc["item alone"] > auc["position alone"] > 0.5
    recall = {name: values[1] for name, values in facts["recall"].items() if name != "clicks"}
    assert recall["Oracle.retrieval_scores"] == max(recall.values())
    assert recall["popularity in shops by the user's clicks there"] > recall["popularity"]
    assert facts["shop features"]["all"] > facts["shop features"]["no shop"]

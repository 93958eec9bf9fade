"""`winnow run` as a user calls it: what is pushed, what is blocked, and which nodes run again when.

The tests share one root (see conftest.py) and go in order: each says which nodes a change makes run.
"""

import json
import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

BUILDING = {"IndexBuilder", "FunnelBuilder"}
RETRIEVAL_TRAINING = {"RetrievalTrainer", "ItemToItemTrainer"}
PRERANK_TRAINING = {"PrerankTeacherTrainer", "PrerankControlTrainer", "PrerankStudentTrainer"}
TRAINING = RETRIEVAL_TRAINING | PRERANK_TRAINING | {"RankTrainer"} | BUILDING
REPORT = "RunReport"
STAGE_GATES = ("RetrievalGate", "PrerankGate", "RankGate")
GATES = {*STAGE_GATES, "FunnelGate", "Pusher"}
SCORE_EVALUATORS = {"PrerankEvaluator", "RankEvaluator"}
JUDGING = {"RetrievalEvaluator", *SCORE_EVALUATORS, *GATES}


def ran(result):
    return {node for node, state in result["nodes"].items() if state == "done"}


def test_the_first_run_runs_everything_and_pushes(workspace, first):
    assert set(first["nodes"].values()) == {"done"}
    assert first["verdict"] == "pushed" and all(check["passed"] for check in first["checks"])
    assert workspace.versions() == [first["live_version"]]
    assert f"Pushed as version {first['live_version']}" in Path(first["report"]).read_text()
    models = first["metrics"]["models"]
    assert models["candidate"]["all"]["recall_100"] > models["popularity"]["all"]["recall_100"]
    assert first["metrics"]["item_to_item"]["num_queries"] < first["metrics"]["num_queries"]
    names = {f"item to item recall_100, against {other}" for other in ("popularity", "random")}
    assert names <= {check["name"] for check in first["checks"]}
    assert first["prerank_metrics"]["models"].keys() == {"candidate", "control", "teacher"}
    assert first["rank_metrics"]["models"].keys() == {"candidate", "prerank"}
    compared = {(c["stage"], c["name"]) for c in first["checks"] if c["name"].startswith("auc, against")}
    assert compared == {
        *(("prerank", f"auc, against {other}") for other in ("random", "control")),
        *(("rank", f"auc, against {other}") for other in ("random", "prerank")),
    }
    # The student is one model, whichever stage asks how good it is.
    student = first["prerank_metrics"]["models"]["candidate"]["all"]
    assert first["rank_metrics"]["models"]["prerank"]["all"]["auc"] == pytest.approx(student["auc"], abs=1e-6)


def test_nothing_changed_trains_nothing_and_pushes_nothing(workspace, first):
    second = workspace.run()
    # What is live has changed, from nothing to the candidate itself.
    assert ran(second) <= {"LiveModel", *JUDGING, REPORT}
    assert second["verdict"] == "already live" and workspace.versions() == [first["live_version"]]
    third = workspace.run()
    assert ran(third) == set() and third["verdict"] == "already live"


def test_a_changed_gate_threshold_judges_again_and_can_block(workspace, first):
    config = workspace.config.read_text()
    workspace.config.write_text(config.replace("min_recall_100: 0.01", "min_recall_100: 0.98"))
    blocked = workspace.run(code=1)
    assert ran(blocked) == {"RetrievalGate", "FunnelGate", "Pusher", REPORT}
    assert blocked["verdict"] == "blocked" and blocked["live_version"] == first["live_version"]
    (failed,) = [check for check in blocked["checks"] if not check["passed"]]
    assert failed["name"] == "recall_100, floor"
    assert failed["missed_by"] == pytest.approx(0.98 - failed["value"])
    assert "Not pushed: blocked by a gate" in Path(blocked["report"]).read_text()
    workspace.config.write_text(config)


def test_a_blocked_push_says_which_gate_and_by_how_much(workspace):
    config = workspace.config.read_text()
    workspace.config.write_text(config.replace("min_recall_100: 0.01", "min_recall_100: 0.98"))
    done = workspace.winnow(
        "run", "--events", workspace.events, "--root", workspace.root, "--config", workspace.config
    )
    workspace.config.write_text(config)
    assert done.returncode == 1
    assert "Not pushed: retrieval: recall_100, floor (missed by 0." in done.stdout
    assert "Traceback" not in done.stderr


def test_the_lineage_of_what_is_live_is_that_of_the_run_that_made_it(workspace, first):
    """Cached and blocked runs since then are no part of it."""
    found = workspace.lineage()
    assert found["version"] == found["live_version"] == first["live_version"]
    assert sorted(e["node"] for e in found["executions"]) == sorted(first["nodes"])
    assert len({e["run"] for e in found["executions"]}) == 1
    assert all(e["code_fingerprint"] for e in found["executions"] if e["node"] in TRAINING | JUDGING)
    makers = {e["id"]: e["node"] for e in found["executions"]}
    made = {(makers[a["maker"]], a["name"]): a for a in found["artifacts"]}
    examples = made["EventIngest", "impressions"]
    cuts = [
        examples["properties"][f"{split}_{end}_day"]
        for split in ("train", "eval", "test")
        for end in ("first", "last")
    ]
    days = sorted(path.name.removeprefix("date=") for path in workspace.events.glob("impressions/*"))
    assert cuts == sorted(cuts) and [cuts[0], cuts[-1]] == [days[0], days[-1]]
    uses = {(use["artifact"], makers[use["execution"]]) for use in found["uses"]}
    assert (made["RetrievalTrainer", "model"]["id"], "IndexBuilder") in uses
    for learner in ("PrerankStudentTrainer", "RankTrainer"):
        assert (made["PrerankTeacherTrainer", "model"]["id"], learner) in uses
    for user in ("FunnelBuilder", "RankEvaluator"):
        assert {(made[x, "model"]["id"], user) for x in ("PrerankStudentTrainer", "RankTrainer")} <= uses
    recall = first["metrics"]["models"]["candidate"]["all"]["recall_100"]
    assert made["RetrievalEvaluator", "evaluation"]["properties"]["candidate"]["recall_100"] == recall
    for node, metrics in (("PrerankEvaluator", "prerank_metrics"), ("RankEvaluator", "rank_metrics")):
        auc = first[metrics]["models"]["candidate"]["all"]["auc"]
        assert made[node, "evaluation"]["properties"]["candidate"]["auc"] == auc
    checks = [
        {"stage": stage, **check}
        for stage, gate in zip(("retrieval", "prerank", "rank"), STAGE_GATES, strict=True)
        for check in made[gate, "report"]["properties"]["checks"]
    ]
    assert checks == first["checks"]

    forward = workspace.lineage("--artifact", str(examples["id"]))
    assert forward["pushed_versions"] == [first["live_version"]]
    users = {e["node"] for e in forward["executions"]}
    assert users >= {"ImpressionStatistics", "Transform", *TRAINING, *JUDGING}


def test_recommend_and_similar_answer_from_the_pushed_version(workspace, first):
    for flavour in ("brute_force", "scann"):
        done = workspace.winnow(
            *("recommend", "--user", "u000001", "--k", 5, "--exclude-seen", "--json"),
            *("--root", workspace.root, "--flavour", flavour),
        )
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert answer["version"] == first["live_version"] and answer["known"]
        scores = [item["score"] for item in answer["items"]]
        assert len(scores) == 5 and scores == sorted(scores, reverse=True)
        assert all(item["title"] for item in answer["items"])
    for command, candidates in (("prerank", 200), ("rank", 200)):
        done = workspace.winnow(command, "--user", "u000001", "--k", 5, "--json", "--root", workspace.root)
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert answer["version"] == first["live_version"] and answer["candidates"] == candidates
        clicked = [item["clicked"] for item in answer["items"]]
        assert len(clicked) == 5 and clicked == sorted(clicked, reverse=True)
    stranger = workspace.winnow("recommend", "--user", "nobody", "--json", "--root", workspace.root)
    assert stranger.returncode == 0 and "nobody is not in" in stranger.stderr
    assert json.loads(stranger.stdout)["clicks"] == 0
    alike = workspace.winnow("similar", "--item", "i000001", "--json", "--root", workspace.root)
    assert "i000001" not in [item["item_id"] for item in json.loads(alike.stdout)["items"]]
    unknown = workspace.winnow("similar", "--item", "no-such-item", "--root", workspace.root)
    assert unknown.returncode == 2 and "no-such-item" in unknown.stderr


def test_a_part_of_the_nodes_runs_and_pushes_nothing(workspace, first):
    part = workspace.run("--to", "Transform")
    assert part["report"] is None
    assert part["verdict"] == "partial" and part["nodes"]["RetrievalTrainer"] == "skipped"
    assert workspace.versions() == [first["live_version"]]


def test_recommend_stays_with_the_log_of_what_is_live(workspace, first):
    """Whatever log a run that pushed nothing has ingested since."""
    other = workspace.path / "other"
    sizes = ("--users", 20, "--items", 100, "--shops", 60, "--days", 4)
    assert workspace.winnow("simulate", "--out", other, *sizes).returncode == 0
    done = workspace.winnow(
        *("run", "--events", other, "--root", workspace.root, "--config", workspace.config),
        *("--to", "EventIngest"),
    )
    assert done.returncode == 0, done.stderr
    done = workspace.winnow("recommend", "--user", "u000250", "--json", "--root", workspace.root)
    answer = json.loads(done.stdout)
    assert answer["known"] and answer["version"] == first["live_version"]
    assert all(item["title"] for item in answer["items"])


def test_an_unknown_node_is_refused_with_the_nearest(workspace):
    done = workspace.try_run("--to", "Tranform")
    assert done.returncode == 2 and "Did you mean 'Transform'" in done.stderr


def test_an_edited_trainer_and_a_changed_setting_run_what_depends_on_them(workspace):
    workspace.edit("trainers/ranking/train.py")
    config = workspace.config.read_text()
    workspace.config.write_text(config.replace("patience_epochs: 4", "patience_epochs: 5"))
    result = workspace.run()
    trained = {"ItemToItemTrainer", "RankTrainer", *BUILDING}
    judged = {"RetrievalEvaluator", "RankEvaluator", *GATES, REPORT}
    assert ran(result) - {"LiveModel", "PrerankEvaluator"} == trained | judged  # these where one was pushed
    workspace.config.write_text(config)


def test_an_edited_preprocessing_runs_transform(workspace):
    workspace.edit("trainers/preprocessing.py")
    assert ran(workspace.run("--to", "Transform")) == {"Transform"}


def test_a_new_day_of_events_runs_everything_but_the_schemas(workspace):
    before = workspace.versions()
    (day,) = workspace.path.glob("date=*")
    shutil.move(day, workspace.events / "impressions" / day.name)
    result = workspace.run()
    cached = {node for node, state in result["nodes"].items() if state == "cached"}
    assert {"ImpressionSchema", "PageSchema", "ItemSchema"} <= cached
    assert ran(result) >= {
        "EventIngest",
        "ImpressionStatistics",
        "AnomalyGate",
        "Transform",
        *TRAINING,
        *JUDGING,
        REPORT,
    }
    assert result["verdict"] == "pushed" and len(workspace.versions()) == len(before) + 1
    for stage in ("metrics", "prerank_metrics", "rank_metrics"):
        assert "live" in result[stage]["models"], stage
    # What it was compared with is part of its lineage.
    assert workspace.lineage()["pushed_versions"] == [before[-1], result["live_version"]]


def test_an_anomaly_stops_the_run_before_anything_is_trained(workspace):
    schema = workspace.code / "schemas" / "marketplace" / "item.pbtxt"
    text = schema.read_text()
    # The curated schema now says that every price lies under 1.
    schema.write_text(text.replace('name: "price"', 'float_domain { min: 0.0 max: 1.0 }\n  name: "price"', 1))
    before = workspace.versions()
    done = workspace.winnow(
        "run", "--events", workspace.events, "--root", workspace.root, "--config", workspace.config
    )
    schema.write_text(text)
    assert done.returncode == 1 and workspace.versions() == before
    assert "AnomalyGate failed" in done.stderr and "feature price" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_truncated_day_fails_by_name_and_leaves_what_is_live(workspace):
    before = workspace.versions()
    path = sorted(workspace.events.glob("impressions/*/*.parquet"))[0]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    done = workspace.winnow(
        "run", "--events", workspace.events, "--root", workspace.root, "--config", workspace.config
    )
    path.write_bytes(content)
    assert done.returncode == 1 and workspace.versions() == before
    assert path.parent.name in done.stderr and "Traceback" not in done.stderr
    # The failure left nothing that the next run would take for a result.
    assert workspace.run()["verdict"] == "already live"

"""The report of a run: curves from real event files, and the page for what was pushed and what was not."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import tensorflow as tf
from tfx.types import standard_artifacts

from components.artifacts import ReportPage
from components.gates import REPORT_FILE, Check, write_gate_report
from components.index_builder.build import REPORT_FILE as INDEX_REPORT_FILE
from components.report_text import describe_rows
from components.retrieval_evaluator.evaluate import METRICS_FILE
from components.run_report.component import PAGE_FILE, write_report
from components.run_report.curves import RETRIEVAL, SCORER, SCORER_AUC, read_curves
from components.run_report.plots import draw_comparison, draw_training
from components.version_pusher import REASON_PROPERTY

GOOD = Check("recall, floor", 0.3, 0.1)
BAD = Check("auc, against control", -0.0125, 0.0, above=True, detail="0.71 against 0.72")
RECALL = {"recall_10": 0.25, "users": 1234}
MODELS = {
    "retrieval": {"candidate": {"all": RECALL}},
    "prerank": {"candidate": {"all": {"auc": 0.75}}},
    "rank": {"candidate": {"all": {"auc": 0.8125}}},
}
INDEX = {
    "leaves": 8,
    "leaves_to_search": 3,
    "recall": 0.99,
    "latency_ms": {"p50": 0.1, "p99": 0.2},
    "brute_force_latency_ms": {"p50": 0.3, "p99": 0.4},
}
VOID = {"meta", "path", "use"}  # the last two as matplotlib writes them: closed at once


def make_retrieval_metrics(models):
    counts = {"num_queries": 30, "num_repeats": 2, "num_users": 20, "num_items": 10}
    return {"exclude_seen": True, **counts, "models": models, "item_to_item": None}


def make_score_metrics(models):
    counts = {"num_rows": 30, "num_requests": 3, "num_users": 2, "drawn_per_click": 0}
    counts |= {"dropped_users_share": 0.5, "dropped_rows_share": 0.2}
    return {**counts, "models": models, "converted": {}}


@pytest.fixture
def make_run(tmp_path):
    """Writes what Keras' TensorBoard callback writes; returns its folder."""

    def make(name, **curves):
        for key, values in curves.items():
            part, tag = ("validation", key[4:]) if key.startswith("val_") else ("train", key)
            writer = tf.summary.create_file_writer(str(tmp_path / name / part))
            with writer.as_default():
                for epoch, value in enumerate(values):
                    tf.summary.scalar(f"epoch_{tag}", value, epoch)
            writer.close()
        return tmp_path / name

    return make


@pytest.fixture
def report(tmp_path, make_run):
    """Writes the page of a run; returns it."""

    def make(kind, name, **content):
        artifact = kind()
        artifact.uri = str(tmp_path / name)
        Path(artifact.uri).mkdir(exist_ok=True)
        for file, text in content.pop("files", {}).items():
            Path(artifact.uri, file).write_text(json.dumps(text))
        for key, value in content.items():
            artifact.set_string_custom_property(key, value)
        return artifact

    def run(checks=(GOOD,), push=None, curves=None, rank_curves=None, is_synthetic=False, **models):
        gate = make(standard_artifacts.Model, "gate")
        write_gate_report(gate, checks)
        rows = json.loads(Path(gate.uri, REPORT_FILE).read_text())["checks"]
        merged = {"blessed": True, "checks": [{"stage": "retrieval", **row} for row in rows]}
        Path(gate.uri, REPORT_FILE).write_text(json.dumps(merged))
        index = {**INDEX, "num_items": 10, "depth": 5, "similar": INDEX}
        models = {**MODELS, **models}
        metrics = {
            "retrieval": make_retrieval_metrics(models["retrieval"]),
            "prerank": make_score_metrics(models["prerank"]),
            "rank": make_score_metrics(models["rank"]),
        }
        evaluations = {
            f"{stage}_evaluation": make(
                standard_artifacts.ModelEvaluation, stage, files={METRICS_FILE: content}
            )
            for stage, content in metrics.items()
        }
        runs = {}
        for name, logged in (("run", curves), ("rank_run", rank_curves)):
            make_run(name, **(logged or {}))
            runs[name] = make(standard_artifacts.ModelRun, name)
        page = make(ReportPage, "page")
        write_report(
            page,
            gate_report=gate,
            pushed_model=make(standard_artifacts.PushedModel, "pushed", **(push or {"pushed_version": "17"})),
            index_report=make(standard_artifacts.Model, "index", files={INDEX_REPORT_FILE: index}),
            **evaluations,
            retrieval_runs={"towers": runs["run"]},
            prerank_runs={"student": runs["run"]},
            rank_run=runs["rank_run"],
            is_synthetic=is_synthetic,
        )
        return Path(page.uri, PAGE_FILE).read_text()

    return run


class Reader(HTMLParser):
    """Holds a page to balanced tags; gathers its text and what it would load."""

    def __init__(self, page):
        super().__init__()
        self.open, self.loads, self.text = [], [], ""
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.loads += [v for k, v in attributes if k in ("src", "href", "xlink:href") and v[0] != "#"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert tag in VOID or self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read_verdict(page):
    return re.search(r'<div class="verdict (\w*)"><strong>(.*?)</strong>', page).groups()


def test_curves_are_what_was_logged_by_epoch_under_keras_names(make_run):
    folder = make_run("run", loss=[0.75, 0.5], val_recall=[0.125, 0.25])
    make_run("run", mean_loss=[1.5])  # a second file in the same folder
    writer = tf.summary.create_file_writer(str(folder / "train"))
    with writer.as_default():
        tf.summary.scalar("batch_loss", 9.0, 0)
        tf.summary.text("keras", "{}", 0)
    writer.close()
    assert read_curves(str(folder)) == {
        "loss": {0: 0.75, 1: 0.5},
        "mean_loss": {0: 1.5},
        "val_recall": {0: 0.125, 1: 0.25},
    }
    assert read_curves(str(folder / "nothing here")) == {}


def test_a_damaged_event_file_is_named(make_run):
    (path,) = make_run("run", loss=[0.75, 0.5]).glob("train/*")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match=re.escape(f"{path}: damaged event file")):
        read_curves(str(path.parent.parent))


def test_the_kept_epoch_is_the_first_of_the_best():
    assert RETRIEVAL.find_kept_epoch({RETRIEVAL.figure: {0: 0.1, 1: 0.3, 2: 0.3, 3: 0.2}}) == 1
    assert SCORER.find_kept_epoch({SCORER.figure: {0: 0.3, 1: 0.1, 2: 0.1, 3: 0.2}}) == 1
    assert SCORER.find_kept_epoch({SCORER.loss: {0: 0.3}}) is None


def find_heights(svg, colour):
    """The height of each point of a curve, down from the top."""
    path = re.search(rf'<path d="(M [^C"]*)" clip-path[^>]*stroke: {re.escape(colour)};', svg)
    return [float(line.split()[2]) for line in path[1].strip().splitlines()]


def test_loss_and_figure_of_a_trainer_have_axes_of_their_own():
    svg = draw_training(RETRIEVAL, {RETRIEVAL.loss: {0: 7.0, 1: 5.0}, RETRIEVAL.figure: {0: 0.1, 1: 0.3}})
    loss, figure = find_heights(svg, "var(--blue)"), find_heights(svg, "var(--orange)")
    # Either fills its own axis, but for the margins: the one falls while the other rises.
    assert loss[1] - loss[0] == pytest.approx((figure[0] - figure[1]) * 1.1 / 1.3, rel=1e-3)
    assert figure[0] - figure[1] > 50


def test_student_and_control_share_their_axes():
    models = {
        name: {SCORER_AUC: {0: 0.6, 1: 0.6 + gain}} for name, gain in (("teacher", 0.3), ("control", 0.1))
    }
    svg = draw_comparison(SCORER_AUC, "AUC", SCORER, models)
    teacher, control = find_heights(svg, "var(--dim)"), find_heights(svg, "var(--blue)")
    assert teacher[0] == control[0]
    assert teacher[0] - teacher[1] == pytest.approx(3 * (control[0] - control[1]), rel=1e-3)


def test_what_was_pushed_says_so_first(report):
    page = report(curves={"mean_loss": [6.0, 5.0], "loss": [0.4, 0.3], "val_recall": [0.2, 0.1]})
    assert read_verdict(page) == ("good", "Pushed as version 17")
    text = Reader(page).text
    assert text.index("Pushed") < text.index("Gates") < text.index("Training")
    assert "1 of 1 checks passed" in text and "kept epoch 1 of 2: recall 0.2000" in text
    assert "synthetic" not in text
    assert "30 clicks of 20 users, 10 items, seen items removed and 2 clicks on them not asked;" in text
    assert '<td class="number">0.2500</td><td class="number">1,234</td>' in page


def test_what_was_blocked_says_by_what_and_by_how_much(report):
    page = report(checks=[GOOD, BAD], push={REASON_PROPERTY: "not blessed"})
    assert read_verdict(page) == ("bad", "Not pushed: blocked by a gate")
    assert "retrieval: auc, against control: -0.0125, expected &gt; 0.0000: FAILED by 0.0125" in page
    assert "1 of 2 checks passed" in page and "0.71 against 0.72" in page
    assert '<td class="bad">FAILED by 0.0125</td>' in page and '<td class="good">passed</td>' in page


def test_what_was_live_already_is_neither(report):
    page = report(push={REASON_PROPERTY: "already live as version 16"})
    assert read_verdict(page) == ("", "Not pushed: already live as version 16")


def test_a_run_without_curves_has_its_page(report):
    page = report()
    assert page.count("no epoch was logged") == 3


def test_ranking_has_curves_and_metrics_of_its_own(report):
    logged = {"loss": [0.7, 0.6], "val_loss": [0.5, 0.25], "val_auc": [0.6, 0.7]}
    rank = {"candidate": {"all": {"auc": 0.8125}}, "prerank": {"all": {"auc": 0.6875}}}
    text = Reader(report(rank_curves=logged, rank=rank)).text
    assert "Ranking: ranker" in text and "kept epoch 2 of 2: log loss 0.2500" in text
    assert text.count("no epoch was logged") == 2, "its curves are no other trainer's"
    before, after = text.split("Ranking on the test split")
    assert "0.7500" in before and "Pre-ranking on the test split" in before
    assert "0.8125" in after and "0.6875" in after and "0.8125" not in before


def test_slices_are_folded_and_what_is_not_defined_is_a_dash(report):
    slices = {"all": {"auc": 0.75, "rows": 30}, "device=desktop": {"auc": None, "rows": 4}}
    page = report(prerank={"candidate": slices}, is_synthetic=True)
    assert "synthetic: simulated" in page and "Conversion" not in page
    details = re.search(r"<details>(.*)</details>", page, re.DOTALL)[1]
    assert '<td>device=desktop</td><td>candidate</td><td class="number">–</td>' in details


def test_the_page_loads_nothing_and_escapes_all_text(report):
    evil = "<script src=//x>&\"'"
    check = Check(evil, 1.0, 2.0, detail=evil)
    models = {evil: {"all": {evil: 0.5}, evil: {evil: 0.5}}}
    page = report(checks=[check], push={REASON_PROPERTY: evil}, retrieval=models, prerank=models, rank=models)
    reader = Reader(page)
    assert "<script" not in page and reader.text.count(evil) >= 12
    assert page.lower().count("<!doctype") == 1 and "<g id" not in page  # what stands in an SVG file alone
    assert not reader.loads and "url(" not in re.sub(r"url\(#", "", page) and "@import" not in page


def test_drawn_rows_are_called_drawn():
    shown = make_score_metrics({})
    assert describe_rows(shown).startswith("30 shown rows of 2 users")
    drawn = {**shown, "drawn_per_click": 4}
    assert describe_rows(drawn).startswith("30 rows, 4 of them drawn for each click, of 2 users")

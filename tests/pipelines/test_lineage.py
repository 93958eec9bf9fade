"""Lineage on a real ML Metadata store, filled as TFX fills it."""

import itertools
import json
import re
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd
from typer.testing import CliRunner

from pipelines import cli
from pipelines.layered_layout import lay_out
from pipelines.lineage_page import render_page
from pipelines.lineage_reader import NotRecordedError, read_artifact_lineage, read_version_lineage
from pipelines.run_metadata import RunMetadataError

CHECKS = [
    {"name": "recall, floor", "value": 0.14, "bound": 0.02, "missed_by": 0.0, "passed": True},
    {"name": "latency", "value": 30.0, "bound": 20.0, "missed_by": 10.0, "passed": False},
]
CHECKS = [{**check, "at_most": check["name"] == "latency", "above": False} for check in CHECKS]


class Recorder:
    """Writes executions as TFX's launcher does.

    Args:
      root: a run's root; its store is `metadata.sqlite`.
    """

    def __init__(self, root):
        config = mlmd.ConnectionConfig()
        self.path = root / "metadata.sqlite"
        config.sqlite.filename_uri = str(self.path)
        config.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
        self.store = MetadataStore(config)
        self.root = root

    def _context(self, kind, name):
        found = self.store.get_context_by_type_and_name(kind, name)
        if found:
            return found.id
        type_id = self.store.put_context_type(mlmd.ContextType(name=kind))
        return self.store.put_contexts([mlmd.Context(type_id=type_id, name=name)])[0]

    def make(self, artifact_type, /, **properties):
        type_id = self.store.put_artifact_type(mlmd.ArtifactType(name=artifact_type))
        artifact = mlmd.Artifact(type_id=type_id)
        set_properties(artifact, properties)
        (artifact_id,) = self.store.put_artifacts([artifact])
        artifact = self.store.get_artifacts_by_id([artifact_id])[0]
        artifact.uri = f"{self.root}/artifacts/{artifact_id}"
        self.store.put_artifacts([artifact])
        return artifact_id

    def run(self, run, node, inputs=None, outputs=None, state="COMPLETE", **parameters):
        """Records an execution; returns its outputs."""
        type_id = self.store.put_execution_type(mlmd.ExecutionType(name=f"components.{node.lower()}.{node}"))
        state = mlmd.Execution.State.Value(state)
        execution = mlmd.Execution(type_id=type_id, last_known_state=state)
        set_properties(execution, parameters)
        (execution_id,) = self.store.put_executions([execution])
        events = []
        for kind, artifacts in ((mlmd.Event.INPUT, inputs or {}), (mlmd.Event.OUTPUT, outputs or {})):
            for key, artifact in artifacts.items():
                event = mlmd.Event(artifact_id=artifact, execution_id=execution_id, type=kind)
                event.path.steps.add().key = key
                event.path.steps.add().index = 0
                events.append(event)
        self.store.put_events(events)
        contexts = [self._context("pipeline_run", run), self._context("node", f"winnow.{node}")]
        self.store.put_attributions_and_associations(
            [], [mlmd.Association(execution_id=execution_id, context_id=context) for context in contexts]
        )
        return outputs


def set_properties(node, properties):
    for name, value in properties.items():
        into = node.custom_properties[name]
        if isinstance(value, list):  # as TFX does
            into.struct_value.update({"__value__": value})
        else:
            kind = {str: "string_value", int: "int_value", float: "double_value"}[type(value)]
            setattr(into, kind, value)


class World:
    """Three runs: one that pushes 100, one that finds it live, one of a new day that pushes 200."""

    def __init__(self, root, warm_start):
        self.recorder = recorder = Recorder(root)
        self.serving = root / "serving"
        make, run = recorder.make, recorder.run
        day = {"split_names": '["train"]', "train_rows": 33070}
        self.examples = make("Examples", train_first_day="2024-01-01", train_last_day="2024-01-06", **day)
        self.statistics = make("ExampleStatistics")
        self.model = make("Model")
        run("r1", "Ingest", {}, {"examples": self.examples}, events_dir="/logs/a", code_fingerprint="c0de")
        run("r1", "Statistics", {"examples": self.examples}, {"statistics": self.statistics})
        run("r1", "StopGate", {"statistics": self.statistics})
        self.train("r1", self.examples, self.model, "")
        nothing = make("Model", version="")
        run("r1", "LiveModel", {}, {"live": nothing}, version="")
        self.pushed = self.judge_and_push("r1", self.model, nothing, "100")

        run("r2", "Ingest", {}, {"examples": self.examples}, state="CACHED", events_dir="/logs/a")
        run("r2", "Trainer", {"examples": self.examples}, {"model": self.model}, state="CACHED")
        self.live = make("Model", version="100")
        run("r2", "LiveModel", {}, {"live": self.live}, version="100")
        self.judge_and_push("r2", self.model, self.live, "")

        self.new_examples = make("Examples", **day)
        new_model = make("Model")
        run("r3", "Ingest", {}, {"examples": self.new_examples}, events_dir="/logs/a")
        self.train("r3", self.new_examples, new_model, f"{self.serving}/exact/100" if warm_start else "")
        run("r3", "LiveModel", {}, {"live": self.live}, state="CACHED", version="100")
        self.new_pushed = self.judge_and_push("r3", new_model, self.live, "200")

    @property
    def path(self):
        return self.recorder.path

    def train(self, run, examples, model, warm_start_dir):
        config = json.dumps({"code_fingerprint": "7a17", "origin": {"warm_start_dir": warm_start_dir}})
        self.recorder.run(run, "Trainer", {"examples": examples}, {"model": model}, custom_config=config)

    def judge_and_push(self, run, model, live, version):
        make = self.recorder.make
        blessing, report = make("ModelBlessing", blessed=1), make("components.GateReport", checks=CHECKS)
        inputs = {"model": model, "live": live}
        self.recorder.run(run, "Gate", inputs, {"blessing": blessing, "report": report})
        pushed = {"pushed": 1, "pushed_version": version, "pushed_destination": str(self.serving)}
        artifact = make("PushedModel", **(pushed if version else {"pushed": 0, "reason": "already live"}))
        inputs = {"model": model, "model_blessing": blessing}
        self.recorder.run(run, "Pusher", inputs, {"pushed_model": artifact})
        return artifact


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("warm"), warm_start=True)


def ran(lineage):
    return {(execution.run, execution.node) for execution in lineage.executions.values()}


def node(lineage, name, run):
    (found,) = [e for e in lineage.executions.values() if (e.node, e.run) == (name, run)]
    return found


def test_a_version_came_of_the_executions_that_made_it_not_of_later_cached_ones(world):
    lineage = read_version_lineage(world.path, "100")
    nodes = {"Ingest", "Statistics", "StopGate", "Trainer", "LiveModel", "Gate", "Pusher"}
    assert ran(lineage) == {("r1", name) for name in nodes}
    assert {lineage.executions[e].node for e in lineage.beside} == {"Statistics", "StopGate"}
    trainer = node(lineage, "Trainer", "r1")
    assert trainer.code_fingerprint == "7a17"
    assert [lineage.executions[e].node for e in lineage.before(trainer.id)] == ["Ingest"]
    examples = lineage.artifacts[world.examples]
    assert examples.properties["train_first_day"] == "2024-01-01" and examples.name == "examples"
    (report,) = [a for a in lineage.artifacts.values() if a.type == "components.GateReport"]
    assert report.properties["checks"] == CHECKS


def test_what_was_checked_in_an_earlier_run_stands_beside_what_a_partial_run_pushed(tmp_path):
    recorder = Recorder(tmp_path)
    examples, statistics, model, blessing = map(
        recorder.make, ("Examples", "ExampleStatistics", "Model", "ModelBlessing")
    )
    recorder.run("r1", "Ingest", {}, {"examples": examples})
    recorder.run("r1", "Statistics", {"examples": examples}, {"statistics": statistics})
    recorder.run("r1", "StopGate", {"statistics": statistics})
    recorder.run("r1", "Trainer", {"examples": examples}, {"model": model})
    # What TFX records of the nodes that a run `--from` a later one skips: outputs alone.
    made = {"Ingest": {"examples": examples}, "Statistics": {"statistics": statistics}, "StopGate": {}}
    for name, outputs in (made | {"Trainer": {"model": model}}).items():
        recorder.run("r2", name, {}, outputs, state="CACHED")
    recorder.run("r2", "Gate", {"model": model}, {"blessing": blessing})
    pushed = recorder.make("PushedModel", pushed=1, pushed_version="100", pushed_destination="/none")
    recorder.run("r2", "Pusher", {"model": model, "model_blessing": blessing}, {"pushed_model": pushed})

    lineage = read_version_lineage(recorder.path)
    earlier = {("r1", name) for name in ("Ingest", "Statistics", "StopGate", "Trainer")}
    assert ran(lineage) == earlier | {("r2", "Gate"), ("r2", "Pusher")}
    assert {lineage.executions[e].node for e in lineage.beside} == {"Statistics", "StopGate"}


def test_warm_start_and_what_was_live_are_edges_and_an_earlier_version_is_not_unfolded(world):
    lineage = read_version_lineage(world.path, "200")
    # What was live was copied in the second run; the third took the copy from the cache.
    nodes = {("r3", name) for name in ("Ingest", "Trainer", "Gate", "Pusher")}
    assert ran(lineage) == nodes | {("r2", "LiveModel"), ("r1", "Pusher")}
    taken_up = {
        (lineage.executions[use.execution].node, use.name)
        for use in lineage.uses
        if use.artifact == world.pushed
    }
    assert taken_up == {("Trainer", "warm_start_dir"), ("LiveModel", "version")}
    earlier = node(lineage, "Pusher", "r1")
    assert lineage.before(earlier.id) == []
    assert [a.id for a in lineage.outputs(earlier.id)] == [world.pushed]
    assert lineage.pushed_versions() == ["100", "200"]


def test_forward_reaches_what_was_made_of_it_in_every_run(world):
    lineage = read_artifact_lineage(world.path, str(world.examples))
    assert lineage.pushed_versions() == ["100", "200"]
    assert {("r2", "Gate"), ("r2", "Pusher"), ("r3", "Trainer"), ("r3", "Pusher")} <= ran(lineage)
    assert ("r3", "Ingest") not in ran(lineage)  # not made of them
    assert not any(run == "r2" and name in ("Ingest", "Trainer") for run, name in ran(lineage))


def test_forward_ends_at_the_verdict_on_what_was_only_compared(tmp_path):
    world = World(tmp_path, warm_start=False)
    lineage = read_artifact_lineage(world.path, str(world.examples))
    assert lineage.pushed_versions() == ["100"]
    assert ("r3", "Gate") in ran(lineage) and ("r3", "Pusher") not in ran(lineage)
    assert read_artifact_lineage(world.path, str(world.new_examples)).pushed_versions() == ["200"]


def test_the_live_version_is_the_newest_that_is_still_there(tmp_path):
    world = World(tmp_path, warm_start=False)
    assert read_version_lineage(world.path).version == "200"  # its destination cannot be seen from here
    for model, version in itertools.product(("exact", "scann"), ("100", "200")):
        (world.serving / model / version).mkdir(parents=True)
    assert read_version_lineage(world.path).version == "200"
    (world.serving / "scann" / "200").rmdir()  # rolled back
    (world.serving / "models.config").touch()  # as TensorFlow Serving reads it
    lineage = read_version_lineage(world.path)
    assert lineage.version == lineage.live_version == "100"
    for model in ("exact", "scann"):
        (world.serving / model / "100").rmdir()
    with pytest.raises(RunMetadataError, match="no pushed version is there any more; recorded are 100, 200"):
        read_version_lineage(world.path)


def test_an_artifact_is_found_by_id_uri_path_in_it_and_where_it_was_pushed(world):
    uri = f"{world.recorder.root}/artifacts/{world.model}"
    for text in (str(world.model), uri, f"{uri}/Format-Serving/saved_model.pb"):
        assert read_artifact_lineage(world.path, text).focus == world.model
    served = f"{world.serving}/exact/100/saved_model.pb"
    assert read_artifact_lineage(world.path, served).focus == world.pushed


def test_what_is_not_recorded_is_named_with_what_is(world, tmp_path):
    with pytest.raises(NotRecordedError, match="no version 7 was pushed; recorded are 100, 200"):
        read_version_lineage(world.path, "7")
    for text in ("99999", "/no/such/path"):
        with pytest.raises(NotRecordedError, match=f"no artifact '{text}'; expected an id"):
            read_artifact_lineage(world.path, text)
    empty = Recorder(tmp_path)
    empty.run("r1", "Ingest", {}, {"examples": empty.make("Examples")})
    with pytest.raises(RunMetadataError, match="no run has pushed a version yet"):
        read_version_lineage(empty.path)


def test_what_was_recorded_has_one_order(tmp_path):
    recorder = Recorder(tmp_path)
    names = [f"metric_{number}" for number in range(20)]
    values = [{"name": "test", "values": dict.fromkeys(names, 0.5)}]
    recorder.run("r1", "Evaluator", {}, {"evaluation": (made := recorder.make("Evaluation", values=values))})
    found = read_artifact_lineage(recorder.path, str(made)).artifacts[made].properties["values"]
    assert list(found[0]) == ["name", "values"] and list(found[0]["values"]) == sorted(names)


def test_failed_executions_are_not_followed(tmp_path):
    recorder = Recorder(tmp_path)
    examples = recorder.make("Examples")
    recorder.run("r1", "Ingest", {}, {"examples": examples})
    recorder.run("r1", "Trainer", {"examples": examples}, {"model": recorder.make("Model")}, state="FAILED")
    lineage = read_artifact_lineage(recorder.path, str(examples))
    assert ran(lineage) == {("r1", "Ingest")}


def test_damage_found_while_reading_names_the_store(tmp_path):
    path = World(tmp_path, warm_start=False).path
    with sqlite3.connect(path) as database:
        (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'Event'").fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    with open(path, "r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    with pytest.raises(RunMetadataError) as caught:
        read_version_lineage(path, "100")
    assert "metadata.sqlite: not a readable ML Metadata store (database disk image" in str(caught.value)
    assert "SELECT" not in str(caught.value)


def test_the_page_holds_every_node_and_loads_nothing(world):
    lineage = read_version_lineage(world.path, "200")
    page = render_page(lineage)
    assert re.findall(r"https?://[^\"' ]+", page) == ["http://www.w3.org/2000/svg"]  # a name, not an address
    assert not re.search(r"<link|<img|\bsrc=|@import|url\((?!#)", page)
    graph = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])
    assert {n["label"] for n in graph["nodes"]} == {e.node for e in lineage.executions.values()}
    assert {row["id"] for n in graph["nodes"] for row in n["rows"]} == {f"a{a}" for a in lineage.artifacts}
    assert len(graph["edges"]) == len(lineage.uses)


def test_nothing_recorded_can_end_the_script_of_the_page(tmp_path):
    recorder = Recorder(tmp_path)
    examples = recorder.make("Examples", note="</script><script>alert(1)</script>")
    recorder.run("r1", "Ingest", {}, {"examples": examples})
    page = render_page(read_artifact_lineage(recorder.path, str(examples)))
    assert "alert(1)" in page and "</script><script>alert" not in page


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda e: e[0] < e[1]), max_size=25))
def test_in_a_layout_edges_go_right_and_nothing_overlaps(edges):
    heights = {number: 20.0 + 15 * (number % 3) for number in range(10)}
    layout = lay_out(heights, edges)
    for start, end in edges:
        assert layout.columns[start] < layout.columns[end]
        assert len(layout.bends[start, end]) == layout.columns[end] - layout.columns[start] - 1
    for one, other in itertools.combinations(heights, 2):
        if layout.columns[one] == layout.columns[other]:
            upper, lower = sorted((one, other), key=layout.tops.get)
            assert layout.tops[upper] + heights[upper] < layout.tops[lower]
    for (start, _), bends in layout.bends.items():
        for column, height in enumerate(bends, start=layout.columns[start] + 1):
            for number, size in heights.items():
                if layout.columns[number] == column:
                    assert not layout.tops[number] <= height <= layout.tops[number] + size
    assert min(layout.tops.values()) >= 0
    assert max(layout.tops[n] + heights[n] for n in heights) <= layout.height + 1e-6


def invoke(world, *arguments):
    return CliRunner(env={"COLUMNS": "80"}).invoke(
        cli.app, ["lineage", "--root", str(world.recorder.root), *arguments]
    )


def test_the_tree_says_days_code_checks_and_runs_in_80_columns(world):
    done = invoke(world, "100")
    assert done.exit_code == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    for expected in (
        "Version 100, pushed",
        "train: first_day 2024-01-01, last_day 2024-01-06, rows 33,070",
        "code 7a17",
        "recall, floor: 0.1400 >= 0.0200, passed",
        "latency: 30.0000 <= 20.0000, FAILED by 10.0000",
        "← events_dir /logs/a",
    ):
        assert expected in done.stdout
    assert "run r2" in invoke(world, "200").stdout
    assert "Pushed versions: 100, 200." in invoke(world, "--artifact", str(world.examples)).stdout


def test_json_is_one_line_and_the_page_a_file(world, tmp_path):
    done = invoke(world, "200", "--json", "--html", str(tmp_path / "graph.html"))
    assert done.exit_code == 0
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["version"] == "200" and answer["pushed_versions"] == ["100", "200"]
    assert {row["node"] for row in answer["executions"]} >= {"Ingest", "Trainer", "Pusher"}
    assert (tmp_path / "graph.html").read_text().startswith("<!doctype html>")


def test_help_says_that_json_is_the_whole_graph():
    done = CliRunner(env={"COLUMNS": "200"}).invoke(cli.app, ["lineage", "--help"])
    assert "Print the whole graph as one line of JSON." in done.stdout


def test_wrong_usage_is_exit_code_2_and_a_missing_store_1(world, tmp_path):
    too_large = (["--artifact", "9" * 20], ["--artifact", "9" * 5000])
    for arguments in (["7"], ["--artifact", "99999"], *too_large, ["100", "--artifact", "1"]):
        done = invoke(world, *arguments)
        assert done.exit_code == 2 and done.stdout == ""
    done = CliRunner().invoke(cli.app, ["lineage", "--root", str(tmp_path / "none")])
    assert done.exit_code == 1 and not (tmp_path / "none").exists()

"""What the commands of pre-ranking's studies hand on, and how they end."""

import collections
import types

import pytest
from typer.testing import CliRunner

from pipelines import cli
from sources.marketplace import MarketplaceConfig, simulate
from trainers.scorers.rows import NoRowsError


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "events"
    simulate(MarketplaceConfig(num_users=20, num_items=100, num_shops=60, num_days=4), path)
    return path


@pytest.fixture
def call(tmp_path, events, monkeypatch):
    """Runs a command on a log, with a configuration; of the pipeline, the nodes alone are left out."""
    metadata = types.SimpleNamespace(
        outputs=lambda node: collections.defaultdict(lambda: types.SimpleNamespace(uri=""))
    )
    monkeypatch.setattr("pipelines.local_runner.run_pipeline", lambda *_, **__: metadata)

    def call(command, config=""):
        (tmp_path / "config.yaml").write_text(config)
        common = ("--events", events, "--root", tmp_path / "root", "--config", tmp_path / "config.yaml")
        return CliRunner().invoke(cli.app, [*command.split(), *map(str, common)])

    return call


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("distill-study", "benchmarks.prerank.data.StudyData"),
        ("bench prerank-scoring", "benchmarks.prerank.scoring.measure_scoring"),
    ],
)
def test_data_that_does_not_do_is_told_in_a_line(call, tmp_path, monkeypatch, command, what):
    """Joint training, which a run refuses, is no reason: what is prepared does not depend on it."""

    def fail(*_, **__):
        raise NoRowsError("the training split covers one day")

    monkeypatch.setattr(what, fail)
    result = call(command, "distillation: {mode: joint, sharing: all}")
    assert isinstance(result.exception, SystemExit) and result.exit_code == 1
    assert "winnow: the training split covers one day\nThe whole story: " in result.output
    assert "Traceback" not in result.output
    (log,) = (tmp_path / "root" / "logs").glob("*.log")
    assert str(log) in result.output and "NoRowsError" in log.read_text()


def test_results_depend_on_the_teachers_days(call, monkeypatch):
    keys = []

    def stop(study, report):
        keys.append(dict(study.data_key))
        raise SystemExit(0)

    monkeypatch.setattr("benchmarks.prerank.study.run_study", stop)
    for fraction in (0.5, 0.5, 0.6):
        assert call("distill-study", f"prerank_teacher: {{days_fraction: {fraction}}}").exit_code == 0
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prerank: {embedding_dim: 7}", "prerank.embedding_dim is 7"),
        # The study has rows of every form, whatever the configuration's is.
        ("prerank_teacher: {form: md, disabled_groups: [interactions]}", "needs privileged features"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(call, tmp_path, text, said):
    result = call("distill-study", text)
    assert said in str(result.exception)
    assert isinstance(result.exception, cli._expected_errors())
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]

"""What the commands below `winnow bench` do alike."""

import json

import pytest
from typer.testing import CliRunner

from benchmarks.index import engines
from pipelines.commands import bench, bench_options

COMMANDS = {
    "retrieval": ["--events", "nothing"],
    "index": [],
    "leave-last-out": ["--data", "nothing"],
    "movielens-tutorial": ["--data", "nothing"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_picture_that_cannot_be_drawn_is_refused_before_the_study(command, tmp_path, monkeypatch):
    # Where the study begins, it ends: with another exit code
    monkeypatch.setattr(engines, "list_missing_packages", lambda: ["faiss-cpu"])
    (tmp_path / "folder.png").mkdir()
    for file, problem in {
        "nowhere/a.png": "expected a folder that may be written",
        "a.foo": "expected a name that ends in .png, .svg, .pdf",
        "a": "expected a name that ends in",
        "folder.png": "is a directory",
    }.items():
        arguments = [command, *COMMANDS[command], "--plot", str(tmp_path / file)]
        result = CliRunner().invoke(bench.app, arguments, env={"COLUMNS": "400"})
        assert result.exit_code == 2, result.output
        assert "--plot" in result.stderr and problem in result.stderr


def test_the_json_has_null_for_what_is_not_defined(capsys):
    summary = {"rows": [{"gauc": float("nan"), "auc": 0.5, "n": 3}], "odds": (float("inf"), True, "a")}
    bench_options.print_json_and_draw(summary, True, None, None)
    printed = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert printed == {"rows": [{"gauc": None, "auc": 0.5, "n": 3}], "odds": [None, True, "a"]}


def test_the_full_study_has_its_seeds_at_least():
    assert list(bench_options.list_seeds(7, 2, full=False)) == [7, 8]
    assert list(bench_options.list_seeds(7, 2, full=True)) == [7, 8, 9, 10, 11]
    assert len(bench_options.list_seeds(7, 6, full=True)) == 6


def test_the_json_is_printed_where_the_picture_fails(tmp_path, capsys):
    def draw(path):
        path.write_text("picture")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        bench_options.print_json_and_draw({"recall": 1.0}, True, tmp_path / "a.png", draw)
    assert json.loads(capsys.readouterr().out) == {"recall": 1.0}
    assert (tmp_path / "a.png").exists()
    bench_options.print_json_and_draw({"recall": 1.0}, False, None, draw)
    assert capsys.readouterr().out == ""

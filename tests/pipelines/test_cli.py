import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines import cli
from sources.marketplace import EFFECTS, MarketplaceConfig
from trainers.prerank.config import StudentConfig
from trainers.ranking.config import RankerConfig

ROOT = Path(__file__).parents[2]
HEAVY = {"tensorflow", "tfx", "apache_beam", "pyarrow", "pandas", "numpy"}


def winnow(*arguments, **options):
    command = [sys.executable, "-m", "pipelines.cli", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, **options
    )


@pytest.fixture(autouse=True)
def _own_signal_handler():
    """`cli.main` takes signals for the whole process; the tests that call it here give them back."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    cli._stopped_by.clear()


@pytest.mark.parametrize(
    "arguments",
    [
        ("recommend", "--user", b"\xff"),
        ("prerank", "--user", "u", "--item", b"\xff"),
        ("rank", "--user", "u", "--item", b"\xff"),
    ],
)
def test_an_id_that_is_not_utf8_is_refused(arguments):
    command = [sys.executable, "-m", "pipelines.cli", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 2 and b"expected an id in UTF-8" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.fixture
def movielens(tmp_path):
    src = tmp_path / "src"
    src.mkdir()
    (src / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n1,1,4.0,964982703\n2,1,3.5,964981247\n"
    )
    (src / "movies.csv").write_text(
        "movieId,title,genres\n1,Toy Story (1995),Adventure\n2,Heat (1995),Action\n"
    )
    return src


def test_summary_as_json_is_the_last_line(movielens, tmp_path):
    result = winnow("import", "movielens", movielens, "--out", tmp_path / "log", "--json")

    assert result.returncode == 0, result.stderr
    assert result.stdout.count("\n") == 1
    assert json.loads(result.stdout) == {
        "path": str(tmp_path / "log"),
        "source": "movielens-latest",
        "schema": "movielens",
        "synthetic": False,
        "num_users": 2,
        "num_items": 2,
        "num_impressions": 2,
        "num_clicks": 2,
        "num_days": 1,
        "first_timestamp": "2000-07-30T18:20:47+00:00",
        "last_timestamp": "2000-07-30T18:45:03+00:00",
    }
    assert "reading ratings" in result.stderr


def test_summary_as_table(movielens, tmp_path):
    result = winnow("import", "movielens", movielens, "--out", tmp_path / "log")

    assert re.search(r"impressions +2 *\n", result.stdout)
    assert "synthetic: simulated" not in result.stdout


def test_simulated_events_are_called_synthetic(tmp_path):
    sizes = ["--users", 60, "--items", 150, "--shops", 60, "--days", 2, "--seed", 3]
    result = winnow("simulate", "--out", tmp_path / "log", *sizes)

    assert result.returncode == 0, result.stderr
    assert "These events are synthetic" in result.stdout
    assert re.search(r"days +2 *\n", result.stdout)


def test_every_option_of_simulate_reaches_the_config(tmp_path, monkeypatch):
    sizes = {
        "--users": ("num_users", 61),
        "--items": ("num_items", 151),
        "--shops": ("num_shops", 62),
        "--categories": ("num_categories", 5),
        "--brands": ("num_brands", 6),
        "--days": ("num_days", 2),
        "--requests-per-user-day": ("requests_per_user_day", 0.7),
        "--candidates": ("num_candidates", 31),
        "--page-size": ("page_size", 7),
        "--start-date": ("start_date", "2023-02-03"),
        "--seed": ("seed", 9),
    }
    seen = []

    def record(config, out, progress):
        seen.append(config)
        raise OSError("stop here")

    monkeypatch.setattr("sources.marketplace.simulate", record)
    arguments = [str(part) for flag, (_, value) in sizes.items() for part in (flag, value)]
    switches = [f"--no-{effect.replace('_', '-')}" for effect in EFFECTS]
    monkeypatch.setattr(
        sys, "argv", ["winnow", "simulate", "--out", str(tmp_path / "log"), *arguments, *switches]
    )
    with pytest.raises(SystemExit):
        cli.main()

    expected = {name: value for name, value in sizes.values()} | dict.fromkeys(EFFECTS, False)
    assert seen == [MarketplaceConfig(**expected)]
    assert set(expected) == {field.name for field in dataclasses.fields(MarketplaceConfig)}


def test_help_of_simulate_names_the_real_defaults():
    text = winnow("simulate", "--help").stdout
    config = MarketplaceConfig()
    for flag, value in {
        "users": config.num_users,
        "items": config.num_items,
        "shops": config.num_shops,
        "categories": config.num_categories,
        "brands": config.num_brands,
        "days": config.num_days,
        "requests-per-user-day": config.requests_per_user_day,
        "candidates": config.num_candidates,
        "page-size": config.page_size,
        "start-date": config.start_date,
        "seed": config.seed,
    }.items():
        assert re.search(rf"--{flag} .*\[default: \(?{value}\)?\]", text), flag


@pytest.mark.parametrize(
    ("command", "depth"),
    [
        ("prerank", f"prerank.depth ({StudentConfig().depth})"),
        ("rank", f"ranking.depth ({RankerConfig().depth})"),
    ],
)
def test_help_of_a_stage_says_how_many_items_there_are_at_most(command, depth):
    assert depth in winnow(command, "--help").stdout


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--users", "0", "a whole number from 1 to"),
        ("--requests-per-user-day", "0", "a number above 0"),
        ("--start-date", "9999-12-30", "a date from 1971-01-01 to 2099-12-31"),
    ],
)
def test_wrong_size_is_named_as_it_was_typed(tmp_path, option, value, expected):
    result = winnow("simulate", "--out", tmp_path / "log", option, value)

    assert result.returncode == 2
    assert re.search(rf"Invalid value for {option}: is '?{value}'?(\.0)?, expected {expected}", result.stderr)
    assert list(tmp_path.iterdir()) == []


def test_simulation_without_a_request_leaves_nothing(tmp_path):
    sizes = ["--users", 1, "--items", 100, "--days", 1, "--requests-per-user-day", 0.0001]
    result = winnow("simulate", "--out", tmp_path / "log", *sizes)

    assert result.returncode == 1
    assert "no request was made" in result.stderr
    assert "--requests-per-user-day" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_bad_input_is_one_message_and_exit_code_1(movielens, tmp_path):
    (movielens / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,1,x,964982703\n")
    result = winnow("import", "movielens", movielens, "--out", tmp_path / "log", "--json")

    assert result.returncode == 1
    assert result.stdout == ""
    assert "winnow: " in result.stderr
    assert "ratings.csv, line 2, rating: expected a number from 0.5 to 5, got 'x'" in result.stderr
    assert "Traceback" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["src"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["import", "movielens"],
        ["simulate"],
        ["simulate", "--out", "x", "--users", "many"],
        ["simulate", "--out", "x", "--users", "-5"],
        ["simulate", "--out", "x", "--start-date", "soon"],
        ["import", "events", "x", "--out", "y", "--schema", "nonexistent"],
    ],
)
def test_wrong_usage_is_exit_code_2(tmp_path, arguments):
    result = winnow(*arguments)
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            PermissionError(13, "Permission denied", "/data/log"),
            "winnow: [Errno 13] Permission denied: '/data/log'. Expected a place that may be",
        ),
        (
            IsADirectoryError(21, "Is a directory", "/data/log"),
            "winnow: [Errno 21] Is a directory: '/data/log'. Expected a file",
        ),
        (
            FileNotFoundError(2, "No such file or directory", "/none/such/log"),
            "'/none/such/log'. There is no folder /none/such; make it, or choose another path.",
        ),
        (
            FileNotFoundError(2, "No such file or directory", "/none"),
            "'/none'. Expected a file or directory of this name",
        ),
        (
            OSError(28, "No space left on device"),
            "winnow: [Errno 28] No space left on device. Free some space",
        ),
    ],
)
def test_system_errors_are_one_message(movielens, monkeypatch, capsys, error, expected):
    tmp_path = movielens.parent

    def fail(*_):
        raise error

    monkeypatch.setattr("sources.event_log.EventLogWriter.write_impressions", fail)
    monkeypatch.setattr(
        sys, "argv", ["winnow", "import", "movielens", str(movielens), "--out", str(tmp_path / "log")]
    )
    with pytest.raises(SystemExit) as caught:
        cli.main()

    assert caught.value.code == 1
    assert expected in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["src"]


def test_place_that_cannot_be_written_is_named_as_it_was_given(movielens, tmp_path):
    result = winnow("import", "movielens", movielens, "--out", "/proc/winnow")

    assert result.returncode == 1
    assert "winnow: /proc/winnow: cannot be written" in result.stderr
    assert ".tmp" not in result.stderr


def test_defects_are_not_disguised(movielens, tmp_path, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("sources.event_log.EventLogWriter.write_users", fail)
    monkeypatch.setattr(
        sys, "argv", ["winnow", "import", "movielens", str(movielens), "--out", str(tmp_path / "log")]
    )
    with pytest.raises(ZeroDivisionError):
        cli.main()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupt_leaves_nothing(tmp_path, number, code):
    out = tmp_path / "log"
    command = [sys.executable, "-m", "pipelines.cli", "simulate", "--days", "900", "--out", str(out)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".log.*/impressions/date=*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=30)

    assert process.returncode == code
    assert b"Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("wrapper", [RuntimeError, OSError, SystemExit])
def test_what_was_stopped_is_not_called_a_defect(monkeypatch, capsys, number, wrapper):
    """Beam raises a RuntimeError where a signal stops it, and `winnow run` a SystemExit for a failed node."""

    def work():
        try:
            signal.raise_signal(number)
        except SystemExit as error:
            raise wrapper(f"Transform failed: {error!r}") from error

    monkeypatch.setattr(cli, "app", work)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 128 + number
    assert capsys.readouterr().err == f"winnow: stopped by {number.name}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        *([], ["simulate"], ["import"], ["import", "movielens"], ["import", "amazon"], ["import", "events"]),
        *(["run"], ["recommend"], ["prerank"], ["rank"], ["similar"], ["serve"], ["lineage"], ["bench"]),
        *(["bench", "retrieval"], ["bench", "index"]),
        *(["bench", "movielens-tutorial"], ["bench", "leave-last-out"]),
    ],
)
def test_help_imports_nothing_heavy(arguments):
    code = (
        f"import sys; sys.argv = ['winnow', *{arguments!r}, '--help']\n"
        "from pipelines.cli import main\n"
        "try:\n    main()\nexcept SystemExit as error:\n    assert error.code == 0\n"
        f"print('HEAVY', *sorted(set(sys.modules) & {HEAVY!r}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "HEAVY"
    assert "Usage: winnow" in result.stdout


def test_schema_is_checked_before_the_import(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "item.pbtxt").write_text("feature {")
    sizes = ["--users", 20, "--items", 100, "--days", 1]
    assert winnow("simulate", "--out", tmp_path / "log", *sizes).returncode == 0
    result = winnow(
        "import", "events", tmp_path / "log", "--out", tmp_path / "out", "--schema", tmp_path / "mine"
    )

    assert result.returncode == 1
    assert "item.pbtxt: cannot be read" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()

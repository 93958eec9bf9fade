"""New versions while requests go on, damaged ones, and those that are taken away."""

import shutil
import threading
import time

import grpc
import numpy as np
import pytest

from serving.model_server.directory import find_models, find_versions
from serving.model_server.model import LoadedModel
from serving.model_server.request_checks import RequestError
from serving.model_server.versions import ServedModels

ROWS = [{"word": "a", "numbers": [i, 2, 3], "weights": [0.5]} for i in range(50)]
COLUMNS = {
    "word": np.array([b"a"] * 50, object),
    "numbers": np.array([row["numbers"] for row in ROWS]),
    "weights": np.full((50, 1), 0.5, np.float32),
}


@pytest.fixture
def directory(tmp_path):
    path = tmp_path / "serving"
    path.mkdir()
    return path


@pytest.fixture
def models(directory):
    served = ServedModels(directory, (reports := []).append)
    served.reports = reports
    return served


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)


def states(models, name="toy"):
    return [(x.version, type(x).State.Name(x.state)) for x in models.status(name)]


def ask(served):
    outputs = served.model.predict(served.model.signature("version"), COLUMNS)
    return set(outputs["from_variable"].tolist()) | set(outputs["from_graph"].tolist())


def damage(path):
    file = path / "saved_model.pb"
    file.write_bytes(file.read_bytes()[:1000])


def ask_until(stopped, client, is_grpc, failures, seen):
    """Asks for 50 rows after another; what is no answer of one version alone is a failure."""
    while not stopped.is_set():
        try:
            if is_grpc:
                outputs, spec = client.predict(COLUMNS, "version")
                found = {*outputs["from_variable"].tolist(), *outputs["from_graph"].tolist()}
                said = spec.version.value
            else:
                status, answer, headers = client.rest(
                    "toy:predict", {"signature_name": "version", "instances": ROWS}
                )
                assert status == 200, answer
                rows = answer["predictions"]
                found = {row["from_variable"] for row in rows} | {row["from_graph"] for row in rows}
                said = int(headers["X-Model-Version"])
            assert found == {said}, f"answers of {found} called version {said}"
            seen.append(said)
        except Exception as error:  # noqa: BLE001  (whatever it is, the test fails by it)
            failures.append(repr(error))
            client.http.close()


def test_twenty_clients_lose_no_request_while_five_versions_are_pushed(
    directory, push, start_server, connect
):
    push(directory, 1)
    server = start_server(directory)
    stopped, failures, seen = threading.Event(), [], [[] for _ in range(20)]
    threads = [
        threading.Thread(
            target=ask_until, args=(stopped, connect(server), i % 2 == 0, failures, seen[i]), daemon=True
        )
        for i in range(20)
    ]
    for thread in threads:
        thread.start()
    for version in range(2, 7):
        push(directory, version)
        wait_for(lambda version=version: server.models.available() == {"toy": version})
        # Every client has had an answer of this version before the next one is pushed.
        wait_for(lambda version=version: all(mine and mine[-1] == version for mine in seen) or failures)
    stopped.set()
    for thread in threads:
        thread.join(60)
    assert failures == []
    for mine in seen:
        assert mine == sorted(mine) and set(mine) >= {2, 3, 4, 5, 6}
    wait_for(lambda: {state for _, state, _, _ in connect(server).statuses()[1:]} == {"END"})
    assert server.reports == [f"serving toy version {version}" for version in range(1, 7)]


def test_a_request_keeps_its_version_and_the_old_one_ends_with_it(directory, models, push):
    push(directory, 1)
    models.poll()
    with models.use("toy") as first:
        with models.use("toy", 1):
            push(directory, 2)
            models.poll()
            assert states(models) == [(2, "AVAILABLE"), (1, "UNLOADING")]
            assert ask(first) == {1}
            with models.use("toy") as second:
                assert ask(second) == {2}
            # A new request for what is going is too late.
            with (
                pytest.raises(RequestError, match="model 'toy' version 1 is not served") as caught,
                models.use("toy", 1),
            ):
                pass
            assert caught.value.code is grpc.StatusCode.NOT_FOUND
        assert states(models)[1] == (1, "UNLOADING")
        assert ask(first) == {1}
    assert states(models) == [(2, "AVAILABLE"), (1, "END")]


@pytest.mark.parametrize(
    "harm",
    [
        damage,
        lambda path: (path / "saved_model.pb").unlink(),
        lambda path: (path / "saved_model.pb").write_bytes(b"\xff not a model"),
        lambda path: (path / "saved_model.pb").write_bytes(b""),
        lambda path: (path / "variables" / "variables.index").write_bytes(b"garbage"),
        lambda path: next(path.glob("variables/*.data*")).write_bytes(b""),
        lambda path: shutil.rmtree(path / "variables"),
        shutil.rmtree,
    ],
    ids=["cut", "no graph", "garbage", "empty", "index", "weights", "no weights", "gone"],
)
def test_a_damaged_version_is_reported_and_the_old_one_stays(directory, models, push, harm):
    push(directory, 1)
    models.poll()
    broken = push(directory, 2)
    harm(broken)
    broken.mkdir(exist_ok=True)
    for _ in range(3):
        models.poll()
    assert models.available() == {"toy": 1} and states(models) == [(2, "END"), (1, "AVAILABLE")]
    (status,) = models.status("toy", 2)
    assert status.status.error_code != 0 and status.status.error_message
    # Once, not at every look.
    (alarm,) = [line for line in models.reports if line.startswith("ALARM")]
    assert "toy version 2 cannot be loaded and is skipped" in alarm and str(broken) in alarm
    assert "\n" not in alarm and "experimental_io_device" not in alarm
    with models.use("toy") as served:
        assert ask(served) == {1}


def test_a_damaged_version_is_tried_again_once_it_has_changed(directory, models, push, toys):
    push(directory, 1)
    broken = push(directory, 2)
    damage(broken)
    models.poll()
    assert models.available() == {"toy": 1}  # also at the start
    shutil.copy(toys / "2" / "saved_model.pb", broken / "saved_model.pb")
    models.poll()
    assert models.available() == {"toy": 2}
    assert [(x.version, x.status.error_code) for x in models.status("toy")] == [(2, 0), (1, 0)]
    assert states(models) == [(2, "AVAILABLE"), (1, "END")]


def test_a_damaged_version_is_left_behind_by_a_newer_one(directory, models, push):
    damage(push(directory, 2))
    models.poll()
    assert models.available() == {} and states(models) == [(2, "END")]
    with pytest.raises(RequestError, match="served: nothing"), models.use("toy"):
        pass
    push(directory, 3)
    models.poll()
    assert models.available() == {"toy": 3} and states(models) == [(3, "AVAILABLE"), (2, "END")]


def test_taking_the_newest_version_away_goes_back_to_the_one_before(directory, models, push):
    push(directory, 1)
    models.poll()
    shutil.rmtree(push(directory, 2).parent / "1")
    models.poll()
    push(directory, 1)
    models.poll()
    assert models.available() == {"toy": 2}
    shutil.rmtree(directory / "toy" / "2")
    models.poll()
    assert models.available() == {"toy": 1} and states(models) == [(1, "AVAILABLE")]
    shutil.rmtree(directory / "toy")
    models.poll()
    assert models.available() == {} and models.reports[-1].startswith("ALARM: no longer serving toy")


def test_a_model_that_appears_later_is_served(directory, models, push):
    push(directory, 1)
    models.poll()
    push(directory, 4, "late")
    models.poll()
    assert models.available() == {"toy": 1, "late": 4}


def test_a_directory_that_is_away_takes_nothing_with_it(directory, push, start_server, connect):
    push(directory, 1)
    server = start_server(directory)
    directory.rename(directory.parent / "elsewhere")
    wait_for(lambda: len(server.reports) > 1)
    time.sleep(0.3)
    assert "ALARM: cannot look for new versions" in server.reports[1] and len(server.reports) == 2
    assert connect(server).predict({"x": np.float32([1])})[1].version.value == 1
    (directory.parent / "elsewhere").rename(directory)
    push(directory, 2)
    wait_for(lambda: server.models.available() == {"toy": 2})


def test_only_directories_named_by_a_number_are_versions(tmp_path):
    for name in ("1", "00012", ".retrieval-1234.tmp", "3.tmp", "-4", "٣", "9" * 19, "notes"):
        (tmp_path / "model" / name).mkdir(parents=True)
    (tmp_path / "model" / "7").write_text("a file")
    (tmp_path / "empty").mkdir()
    (tmp_path / ".hidden" / "1").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    assert {number: path.name for number, path in find_versions(tmp_path / "model").items()} == {
        1: "1",
        12: "00012",
    }
    assert list(find_models(tmp_path)) == ["model"]


def test_loading_a_version_calls_every_signature(toys, monkeypatch):
    called = []
    monkeypatch.setattr(LoadedModel, "predict", lambda self, x, inputs: called.append((x.name, inputs)))
    model = LoadedModel(toys / "1")
    model.warm_up()
    assert {name for name, _ in called} == model.signature_defs.keys() - {"__saved_model_init_op"}
    assert {x.shape for name, inputs in called if name == "version" for x in inputs.values()} == {
        (1,),
        (1, 3),
        (1, 1),
    }

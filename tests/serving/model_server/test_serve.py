"""`winnow serve` as a process: ready, stopped, and what it says where it cannot start."""

import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def directory(tmp_path, push):
    push(tmp_path, 1)
    return tmp_path


def winnow_serve(*arguments):
    command = [sys.executable, "-m", "pipelines.cli", "serve", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.slow
def test_it_serves_what_is_pushed_skips_what_is_damaged_and_drains(directory, push, start_process, connect):
    process = start_process(directory, "--poll-seconds", "0.1")
    client, other = connect(process), connect(process)
    assert client.rest("toy:predict", {"instances": [1.0]})[1] == {"predictions": [2.0]}
    (push(directory, 2) / "saved_model.pb").write_bytes(b"")
    push(directory, 3)
    deadline = time.monotonic() + 60
    while client.predict({"x": np.float32([1])})[1].version.value != 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    # Both requests take a second or more; the server is told to stop in their middle.
    answers = []
    steps = 1_000_000
    by_grpc = threading.Thread(
        target=lambda: answers.append(client.predict({"steps": np.int64(steps)}, "spin")[0]["steps"].item())
    )
    by_rest = threading.Thread(
        target=lambda: answers.append(
            other.rest("toy:predict", {"signature_name": "spin", "inputs": steps})[1]["outputs"]
        )
    )
    by_grpc.start()
    by_rest.start()
    time.sleep(0.3)
    assert answers == [], "the requests are too short to say anything"
    code, stderr = process.stop(signal.SIGTERM)
    by_grpc.join()
    by_rest.join()
    assert answers == [steps, steps] and code == 0
    assert "serving toy version 1\n" in stderr and "serving toy version 3\n" in stderr
    assert "Traceback" not in stderr
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", process.rest_port), timeout=5)


@pytest.mark.slow
def test_ctrl_c_stops_it_too(directory, start_process):
    code, stderr = start_process(directory).stop(signal.SIGINT)
    assert code == 0 and "Traceback" not in stderr


@pytest.mark.slow
def test_a_port_in_use_is_one_message(directory):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for option, other in (("--port", "--rest-port"), ("--rest-port", "--port")):
            done = winnow_serve("--models", directory, option, port, other, 0)
            assert done.returncode == 1 and done.stdout == ""
            assert f"winnow: port {port} of 127.0.0.1 cannot be listened on" in done.stderr
            assert "choose another port" in done.stderr and "Traceback" not in done.stderr


def test_what_is_no_push_destination_is_said_at_once(tmp_path):
    for path, message in (
        (tmp_path / "nowhere", "No such file or directory"),
        (tmp_path, "no version of a model there. Expected <model>/<version>/saved_model.pb"),
    ):
        done = winnow_serve("--models", path, "--port", 0, "--rest-port", 0)
        assert done.returncode == 1 and done.stdout == ""
        assert str(path) in done.stderr and message in done.stderr and "Traceback" not in done.stderr

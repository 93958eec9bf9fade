"""What docs/serving.md shows works as it stands there, but for the ports."""

import json
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TEXT = (Path(__file__).parents[3] / "docs" / "serving.md").read_text(encoding="utf-8")


def code_blocks(begin):
    """The indented blocks from a line that begins so to the next line that is not indented."""
    return [
        textwrap.dedent(x)
        for x in re.findall(rf"^    {begin}.*\n(?:    .*\n|\n(?=    ))*", TEXT, re.MULTILINE)
    ]


def ask(shown, server):
    """What a curl command is answered."""
    command = shown.replace(":8501/", f":{server.rest_port}/")
    command = command.replace("curl ", "curl --noproxy '*' --silent ")
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    assert "error" not in answer, answer
    return answer


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_every_curl_command_is_answered(pushed_server):
    commands = [x for block in code_blocks("curl") for x in re.split(r"\n(?=curl )", block)]
    assert len(commands) == 5
    for shown in commands:
        answer = ask(shown, pushed_server)
        if "recommend" in shown:
            assert len(answer["predictions"][0]["item_id"]) == 100
            assert not {"i000001", "i000002"} & set(answer["predictions"][0]["item_id"])
        if '"prerank"' in shown:
            of_rank = ask(shown.replace('"prerank"', '"rank"'), pushed_server)
            assert of_rank != answer
            for (row,) in (answer["predictions"], of_rank["predictions"]):
                assert set(row["item_id"]) == {"i000003", "i000004", "i000005", "i000006"}
                assert row["clicked"] == sorted(row["clicked"], reverse=True)


def test_the_grpc_client_is_answered(pushed, pushed_server):
    (code,) = code_blocks("import grpc")
    code = code.replace(":8500", f":{pushed_server.grpc_port}")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{pushed.version} [b'i000")

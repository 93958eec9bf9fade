"""The help texts of the commands, on a terminal."""

import inspect

import pytest
import typer
from typer.testing import CliRunner

from pipelines import cli


def find_commands(command, path=()):
    for name, inner in getattr(command, "commands", {}).items():
        yield (*path, name), inner
        yield from find_commands(inner, (*path, name))


COMMANDS = dict(find_commands(typer.main.get_command(cli.app)))


@pytest.mark.parametrize("path", COMMANDS)
def test_a_paragraph_of_a_help_text_breaks_only_where_the_terminal_ends(path):
    printed = CliRunner().invoke(cli.app, [*path, "--help"], env={"COLUMNS": "500"}).stdout
    lines = [line.strip() for line in printed.splitlines()]
    paragraphs = inspect.cleandoc(COMMANDS[path].help).split("\n\n")
    assert all(paragraphs)
    for paragraph in paragraphs:
        assert paragraph.replace("\n", " ") in lines

"""The `winnow` command. Nothing heavy is imported before a command runs, so that `--help` is instant."""

import errno
import inspect
import signal
import sys
from pathlib import Path

import typer

from pipelines.commands import (
    ablate,
    ask,
    bench,
    distill_study,
    import_sources,
    lineage,
    run,
    serve,
    simulate,
)

_FULL = ". Free some space, or choose another place."
_FORBIDDEN = ". Expected a place that may be read and written; change its permissions, or choose another."
_HINTS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EROFS: _FORBIDDEN,
    errno.ENOENT: ". Expected a file or directory of this name; check the path.",
    errno.EISDIR: ". Expected a file, got a directory; give the file.",
    errno.ENOTDIR: ". Expected a directory, got a file on the way to it; choose another path.",
    errno.ENAMETOOLONG: ". Choose a shorter name.",
}

app = typer.Typer(
    name="winnow",
    help="A recommendation funnel, trained, gated and shipped by one pipeline.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("simulate")(simulate.simulate)
app.command("run")(run.run)
app.command("recommend")(ask.recommend)
app.command("prerank")(ask.prerank)
app.command("rank")(ask.rank)
app.command("similar")(ask.similar)
app.command("serve")(serve.serve)
app.command("lineage")(lineage.lineage)
app.command("distill-study")(distill_study.distill_study)
app.add_typer(ablate.app, name="ablate")
app.add_typer(import_sources.app, name="import")
app.add_typer(bench.app, name="bench")


def _let_paragraphs_flow(commands: typer.Typer) -> None:
    """Joins the lines of the help texts' paragraphs; Typer joins the first one's alone."""
    for command in commands.registered_commands:
        text = inspect.cleandoc(command.help or inspect.getdoc(command.callback) or "")
        command.help = "\n\n".join(" ".join(part.splitlines()) for part in text.split("\n\n"))
    for group in commands.registered_groups:
        if group.typer_instance is not None:
            _let_paragraphs_flow(group.typer_instance)


_let_paragraphs_flow(app)


def main() -> None:
    """Runs the command line.

    Exit codes: 0 done, 1 bad input or a file that cannot be read or written, 2 wrong usage, 130 interrupted,
    143 terminated.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        try:
            app()
        finally:
            _exit_if_stopped()
    except SystemExit:  # how every command ends, --help too: it must not pay for the import below
        raise
    except _expected_errors() as error:
        print(f"winnow: {error}{_hint(error)}", file=sys.stderr)
        sys.exit(1)


_stopped_by: list[signal.Signals] = []


def _stop(number: int, _: object) -> None:
    """Ends the command as an exception does, so that it takes what it began to write with it."""
    signal.signal(number, signal.SIG_IGN)  # a second one would interrupt that
    _stopped_by.append(signal.Signals(number))
    raise SystemExit(128 + number)


def _exit_if_stopped() -> None:
    """Beam wraps what stops it in an error of its own, which would be taken for a defect of the node."""
    if _stopped_by:
        print(f"winnow: stopped by {_stopped_by[0].name}", file=sys.stderr)
        sys.exit(128 + _stopped_by[0])


def _expected_errors() -> tuple[type[Exception], ...]:
    """What a user can put right; called, and the import paid, only once something was raised."""
    from pipelines.config import ConfigError
    from sources.event_log import EventLogError

    return ConfigError, EventLogError, OSError


def _hint(error: Exception) -> str:
    if not isinstance(error, OSError):
        return ""
    if error.errno == errno.ENOENT and isinstance(error.filename, str):
        folder = Path(error.filename).parent
        if not folder.exists():
            return f". There is no folder {folder}; make it, or choose another path."
    return _HINTS.get(error.errno or 0, "")


if __name__ == "__main__":
    main()

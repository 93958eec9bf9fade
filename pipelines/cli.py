"""The `winnow` command. Nothing heavy is imported before a command runs, so that `--help` is instant."""

import errno
import sys

import typer

from pipelines.commands import ask, bench, import_sources, run, simulate

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
app.command("similar")(ask.similar)
app.add_typer(import_sources.app, name="import")
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Runs the command line.

    Exit codes: 0 done, 1 bad input or a file that cannot be read or written, 2 wrong usage, 130 interrupted.
    """
    try:
        app()
    except SystemExit:  # how every command ends, --help too: it must not pay for the import below
        raise
    except _expected_errors() as error:
        print(f"winnow: {error}{_hint(error)}", file=sys.stderr)
        sys.exit(1)


def _expected_errors() -> tuple[type[Exception], ...]:
    """What a user can put right; called, and the import paid, only once something was raised."""
    from pipelines.config import ConfigError
    from sources.event_log import EventLogError

    return ConfigError, EventLogError, OSError


def _hint(error: Exception) -> str:
    is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return ". Free some space, or choose another --out." if is_full else ""


if __name__ == "__main__":
    main()

"""`winnow import`: a data set, or one's own events, as an event log."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.console import JsonOption, OutOption, print_summary, show_progress

app = typer.Typer(help="Turn a data set into an event log.", no_args_is_help=True)


@app.command()
def movielens(
    src: Annotated[Path, typer.Argument(metavar="SRC", help="The unpacked data set.", show_default=False)],
    out: OutOption,
    as_json: JsonOption = False,
) -> None:
    """MovieLens 100k, 1M, 10M or latest-* (20M, 25M and 32M are written alike), told apart by the files."""
    from sources.movielens import import_movielens

    with show_progress() as progress:
        import_movielens(src, out, progress)
    print_summary(out, as_json)


@app.command()
def amazon(
    src: Annotated[
        Path,
        typer.Argument(
            metavar="SRC",
            help="The file of reviews (.json, .jsonl, also .gz), or a directory with it and a meta* file.",
            show_default=False,
        ),
    ],
    out: OutOption,
    metadata: Annotated[
        Path | None, typer.Option(help="The file of metadata, if not beside the reviews.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Amazon reviews as JSON lines: the 2014, 2018 (5-core or all) and 2023 (raw) releases."""
    from sources.amazon import import_amazon

    with show_progress() as progress:
        import_amazon(src, out, metadata, progress)
    print_summary(out, as_json)


@app.command()
def events(
    src: Annotated[
        Path,
        typer.Argument(
            metavar="SRC",
            help="A directory with users.parquet, items.parquet and impressions/date=YYYY-MM-DD/.",
            show_default=False,
        ),
    ],
    out: OutOption,
    schema: Annotated[
        str | None,
        typer.Option(
            help="Describes your own columns: a folder under schemas/, or the path of one like it.",
            show_default="what event_log.json names, or core",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Your own events, laid out as an event log: checked in full, then copied."""
    from pipelines.schema_check import check_schema
    from sources.event_log import EventLog
    from sources.events import DEFAULT_MANIFEST, import_events

    if schema:
        schema = _find_schema(schema)
    log = EventLog(src, needs_manifest=False)
    own_manifest = log.manifest if log.has_manifest else DEFAULT_MANIFEST
    check_schema(log, schema or own_manifest.schema)
    with show_progress() as progress:
        import_events(src, out, schema, progress)
    print_summary(out, as_json)


def _find_schema(name: str) -> str:
    """The schema's name; the full path of a folder of the user's own, which later runs are to find."""
    from schemas.features import source_names

    if name in source_names():
        return name
    if not Path(name).is_dir():
        raise typer.BadParameter(
            f"{name!r}: expected one of {', '.join(source_names())}, or a folder", param_hint="--schema"
        )
    return str(Path(name).resolve())

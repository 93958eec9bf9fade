"""`winnow recommend`, `prerank`, `rank` and `similar`: answers from the pushed version."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.commands.console import JsonOption
from pipelines.commands.run import DEFAULT_ROOT, RootOption

if TYPE_CHECKING:
    from serving.pushed_version import PushedVersion, RankedItem, UserState
    from sources.event_log import EventLog

MAX_COUNT = 500
CountOption = Annotated[int, typer.Option("--k", min=1, max=MAX_COUNT, help="How many items.")]
FlavourOption = Annotated[
    str,
    typer.Option("--flavour", help="brute_force (exact) or scann (approximate): which of the two to ask."),
]


def _check_id(value: Any) -> Any:
    """Ids are UTF-8, as the event log's are; what a shell passes need not be."""
    for part in value if isinstance(value, list) else [value]:
        try:
            (part or "").encode()
        except UnicodeEncodeError as error:
            raise typer.BadParameter(f"{part!r}: expected an id in UTF-8") from error
    return value


UserOption = Annotated[
    str, typer.Option("--user", help="The user's id.", show_default=False, callback=_check_id)
]


def recommend(
    user: UserOption,
    k: CountOption = 10,
    exclude_seen: Annotated[
        bool, typer.Option("--exclude-seen", help="Leave out what the user clicked before.")
    ] = False,
    root: RootOption = DEFAULT_ROOT,
    flavour: FlavourOption = "brute_force",
    as_json: JsonOption = False,
) -> None:
    """The best items for a user, with the profile and history of the run's event log."""
    log, pushed = _open(root, flavour)
    state = _read_user(log, user)
    items = pushed.recommend(state.example, state.clicked if exclude_seen else [], k)
    title = f"For {user}, who clicked {len(state.clicked)} items; version {pushed.version}"
    answer = {"user": user, "known": state.is_known, "clicks": len(state.clicked)}
    scores = {x.item_id: {"score": x.score} for x in items}
    _print_items(log, scores, title, {**answer, "version": pushed.version}, as_json)


ItemsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--item",
        help="A candidate's id; may repeat. Without: what the stages before it find.",
        callback=_check_id,
    ),
]


def prerank(
    user: UserOption,
    item: ItemsOption = None,
    k: Annotated[
        int,
        typer.Option("--k", min=1, max=MAX_COUNT, help="How many items; no more than prerank.depth (200)."),
    ] = 10,
    root: RootOption = DEFAULT_ROOT,
    flavour: FlavourOption = "brute_force",
    as_json: JsonOption = False,
) -> None:
    """Candidates in the order of pre-ranking, the funnel's second stage: by the probability of a click."""
    log, pushed = _open(root, flavour)
    from components.funnel_builder.prerank_package import MAX_CANDIDATES

    state = _read_user(log, user)
    with _pushed_before():
        candidates = _check_candidates(item, MAX_CANDIDATES) or _retrieve(pushed, state)
        items = pushed.prerank(state.example, candidates, k)
    _print_order(log, pushed, user, state, len(candidates), items, as_json)


def rank(
    user: UserOption,
    item: ItemsOption = None,
    k: Annotated[
        int,
        typer.Option("--k", min=1, max=MAX_COUNT, help="How many items; no more than ranking.depth (50)."),
    ] = 10,
    root: RootOption = DEFAULT_ROOT,
    flavour: FlavourOption = "brute_force",
    as_json: JsonOption = False,
) -> None:
    """Candidates in the order of ranking, the funnel's third stage: by the probability of a click."""
    log, pushed = _open(root, flavour)
    from components.funnel_builder.rank_package import MAX_CANDIDATES

    state = _read_user(log, user)

    def find_candidates() -> list[str]:
        found = pushed.prerank(state.example, _retrieve(pushed, state), MAX_COUNT)
        return [x.item_id for x in found]

    with _pushed_before():
        candidates = _check_candidates(item, MAX_CANDIDATES) or find_candidates()
        items = pushed.rank(state.example, candidates, k)
    _print_order(log, pushed, user, state, len(candidates), items, as_json)


def similar(
    item: Annotated[
        str, typer.Option("--item", help="The item's id.", show_default=False, callback=_check_id)
    ],
    k: CountOption = 10,
    root: RootOption = DEFAULT_ROOT,
    flavour: FlavourOption = "brute_force",
    as_json: JsonOption = False,
) -> None:
    """The items most likely to be clicked after an item, in one session."""
    log, pushed = _open(root, flavour)
    items = pushed.similar(item, k)
    if not items:
        raise typer.BadParameter(f"{item!r} is not in the catalogue of version {pushed.version}")
    title = f"Clicked after {item}; version {pushed.version}"
    scores = {x.item_id: {"score": x.score} for x in items}
    _print_items(log, scores, title, {"item": item, "version": pushed.version}, as_json)


def _open(root: Path, flavour: str) -> tuple["EventLog", "PushedVersion"]:
    """The event log of the live version, and the version."""
    from pipelines import tensorflow_setup  # noqa: F401, I001  (before TensorFlow)
    from components.flavours import FLAVOURS
    from pipelines.paths import RunPaths
    from pipelines.run_metadata import RunMetadata, RunMetadataError
    from serving.pushed_version import NothingPushedError, PushedVersion
    from sources.event_log import EventLog

    if flavour not in FLAVOURS:
        raise typer.BadParameter(
            f"{flavour!r}: expected one of {', '.join(FLAVOURS)}", param_hint="--flavour"
        )
    paths = RunPaths(root)
    try:
        pushed = PushedVersion(paths.serving, flavour)
        log = EventLog(RunMetadata(paths.metadata).events_dir())
    except (NothingPushedError, RunMetadataError) as error:
        raise SystemExit(f"winnow: {error}") from error
    return log, pushed


def _read_user(log: "EventLog", user: str) -> "UserState":
    from serving.pushed_version import read_user_state

    state = read_user_state(log, user)
    if not state.is_known:
        typer.echo(f"winnow: {user} is not in {log.users_path}; answering for a new user", err=True)
    return state


def _check_candidates(items: Sequence[str] | None, most: int) -> list[str]:
    """The candidates, each once."""
    candidates = list(dict.fromkeys(items or ()))
    if len(candidates) > most:
        raise typer.BadParameter(
            f"{len(candidates):,} candidates, expected {most:,} at most", param_hint="--item"
        )
    return candidates


def _retrieve(pushed: "PushedVersion", state: "UserState") -> list[str]:
    """What the first stage finds."""
    return [x.item_id for x in pushed.recommend(state.example, [], MAX_COUNT)]


@contextmanager
def _pushed_before() -> Iterator[None]:
    """Ends the command in a line where the live version lacks the stage."""
    from serving.pushed_version import NothingPushedError

    try:
        yield
    except NothingPushedError as error:
        raise SystemExit(f"winnow: {error}") from error


def _print_order(
    log: "EventLog",
    pushed: "PushedVersion",
    user: str,
    state: "UserState",
    num_candidates: int,
    items: Sequence["RankedItem"],
    as_json: bool,
) -> None:
    """Prints candidates in a stage's order."""
    if not items:
        raise typer.BadParameter(
            f"none of the items is in the catalogue of version {pushed.version}", param_hint="--item"
        )
    title = f"Of {num_candidates} candidates for {user}; version {pushed.version}"
    answer = {"user": user, "known": state.is_known, "candidates": num_candidates}
    probabilities = {x.item_id: x.probabilities for x in items}
    _print_items(log, probabilities, title, {**answer, "version": pushed.version}, as_json)


def _print_items(
    log: "EventLog",
    scores: Mapping[str, Mapping[str, float]],
    title: str,
    answer: dict[str, Any],
    as_json: bool,
) -> None:
    """Prints each item's scores by name, with what the catalogue says of it."""
    import pyarrow as pa

    from components.event_ingest.tables import read_rows
    from schemas import features as f

    rows = read_rows(str(log.items_path), f.ITEM_ID, pa.array(list(scores), pa.string()))
    about = {row[f.ITEM_ID]: row for row in rows.select([f.ITEM_ID, f.TITLE, f.CATEGORY]).to_pylist()}
    answer["items"] = [{**about.get(item, {f.ITEM_ID: item}), **scores[item]} for item in scores]
    if as_json:
        typer.echo(json.dumps(answer))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE, title=title, title_justify="left")
    table.add_column("", justify="right")
    for name in ("item", "title", "category"):
        table.add_column(name)
    for name in next(iter(scores.values()), {}):
        table.add_column(name, justify="right")
    for number, row in enumerate(answer["items"], start=1):
        title, category = row.get(f.TITLE, ""), row.get(f.CATEGORY, "")
        values = [f"{value:.4f}" for value in scores[row[f.ITEM_ID]].values()]
        table.add_row(str(number), row[f.ITEM_ID], title, category, *values)
    Console(markup=False, highlight=False).print(table)
    if log.manifest.synthetic:
        typer.echo("The catalogue is synthetic: simulated, not observed.")

"""`winnow lineage`: back from a pushed version to the data, forward from an artifact to what used it."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.commands.run import DEFAULT_ROOT, RootOption

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text
    from rich.tree import Tree

    from pipelines.lineage import Artifact, Execution, Lineage

# What TFX writes on every artifact of a type, whatever came of it.
_BOILERPLATE = {"is_external", "sample_rate_by_split", "span", "split_names", "stats_dashboard_link"}
_BOILERPLATE |= {"tfx_version"}


def lineage(
    version: Annotated[
        str | None,
        typer.Argument(
            metavar="VERSION", help="A pushed version; what is live when left out.", show_default=False
        ),
    ] = None,
    artifact: Annotated[
        str | None,
        typer.Option(
            "--artifact",
            help="Go forward instead, from this artifact: its id, or a path in it.",
            show_default=False,
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Draw the graph to this file too.", show_default=False)
    ] = None,
    root: RootOption = DEFAULT_ROOT,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the whole graph as one line of JSON.")
    ] = False,
) -> None:
    """What a pushed version came of: data, code, models, metrics, gates; or what came of an artifact."""
    from pipelines.lineage_reader import NotRecordedError, read_artifact_lineage, read_version_lineage
    from pipelines.paths import RunPaths
    from pipelines.run_metadata import RunMetadataError

    if version and artifact:
        raise typer.BadParameter("give VERSION to go back or --artifact to go forward, not both")
    path = RunPaths(root).metadata
    try:
        found = read_artifact_lineage(path, artifact) if artifact else read_version_lineage(path, version)
    except NotRecordedError as error:
        raise typer.BadParameter(str(error)) from error
    except RunMetadataError as error:
        raise SystemExit(f"winnow: {error}") from error
    if html is not None:
        from pipelines.lineage_page import render_page

        html.write_text(render_page(found), encoding="utf-8")
        typer.echo(f"The graph: {html}", err=True)
    if as_json:
        typer.echo(json.dumps(found.to_json()))
    else:
        _print_tree(found)


def _print_tree(found: "Lineage") -> None:
    from rich.console import Console

    console = Console(markup=False, highlight=False)
    console.print(_make_tree(found))
    if not found.version:
        versions = ", ".join(found.pushed_versions())
        console.print(f"Pushed versions: {versions}." if versions else "No version was pushed of it.")


def _make_tree(found: "Lineage") -> "Tree":
    """A branch per execution, below the one that used what it made, or that made what it used."""
    from rich.text import Text
    from rich.tree import Tree

    from pipelines.lineage import format_time

    focus = found.artifacts[found.focus]
    run = found.executions[focus.maker].run
    shown: set[int] = set()

    def add(tree: Tree, execution: int) -> None:
        shown.add(execution)
        branch = tree.add(_describe_execution(found.executions[execution], run))
        for line in (*_describe_uses(found, execution), *_describe_outputs(found, execution)):
            branch.add(line)
        above = []
        for other in found.before(execution) if found.version else found.after(execution):
            if other in shown:
                above.append(found.executions[other].node)
            else:
                add(branch, other)
        if above:
            branch.add(Text(f"{', '.join(dict.fromkeys(above))}: above", "dim"))

    if found.version:
        is_live = ", live" if found.version == found.live_version else ""
        title = f"Version {found.version}{is_live}, pushed {format_time(focus.created_at)} by run {run}"
        tree = Tree(Text(title, "bold"))
        add(tree, focus.maker)
        ends = sorted(e for e in found.beside if not found.beside & set(found.after(e)))
        if ends:
            beside = tree.add(Text("Beside it, in the same run", "bold"))
            for end in ends:
                add(beside, end)
        return tree
    maker = found.executions[focus.maker].node
    title = f"{focus.name} #{focus.id}, {focus.type}, made by {maker} in run {run}"
    tree = Tree(_describe(Text(title, "bold"), focus))
    for user in sorted({use.execution for use in found.uses if use.artifact == focus.id}):
        if user not in shown:
            add(tree, user)
    return tree


def _describe_execution(execution: "Execution", run: str) -> "Text":
    """Its node, how long it took, its code, and its run if that is another."""
    from rich.text import Text

    text = Text(execution.node, "bold cyan")
    text.append(f" {execution.seconds:,.1f} s", "not bold default")
    if execution.code_fingerprint:
        text.append(f", code {execution.code_fingerprint}", "not bold default")
    if execution.run != run:
        text.append(f", run {execution.run}", "not bold yellow")
    return text


def _describe_uses(found: "Lineage", execution: int) -> Iterator["Text"]:
    """What it used; or, where a graph begins, what it was told."""
    from rich.text import Text

    uses = [use for use in found.uses if use.execution == execution]
    if uses:
        names = [f"{found.artifacts[use.artifact].name} #{use.artifact}" for use in uses]
        yield Text(f"← {', '.join(names)}", "dim")
        return
    parameters = found.executions[execution].parameters
    told = {k: v for k, v in parameters.items() if k != "code_fingerprint" and not isinstance(v, dict)}
    if told:
        yield Text(f"← {_format_values(told)}", "dim")


def _describe_outputs(found: "Lineage", execution: int) -> Iterator["RenderableType"]:
    """What it made: together what nothing was recorded of, and each of the rest with what was."""
    from rich.text import Text

    outputs = found.outputs(execution)
    plain = [f"{made.name} #{made.id}" for made in outputs if not _select_properties(made)]
    if plain:
        yield Text(f"→ {', '.join(plain)}", "green")
    for made in outputs:
        if _select_properties(made):
            yield _describe(Text(f"→ {made.name} #{made.id}", "green"), made)


def _select_properties(artifact: "Artifact") -> dict[str, Any]:
    return {name: value for name, value in artifact.properties.items() if name not in _BOILERPLATE}


def _describe(title: "Text", artifact: "Artifact") -> "RenderableType":
    """A title, the values recorded beside it, then a line for each split, check and group of values."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    from components.report_text import describe_check

    rest = _select_properties(artifact)
    lines = []
    for split in json.loads(artifact.properties.get("split_names") or "[]"):
        of_split = {name: rest.pop(name) for name in list(rest) if name.startswith(f"{split}_")}
        if of_split:
            values = {name[len(split) + 1 :]: value for name, value in of_split.items()}
            lines.append(f"{split}: {_format_values(values)}")
    for check in rest.pop("checks", []):
        value, bound, verdict = describe_check(check)
        lines.append(f"{check['name']}: {value} {bound}, {verdict}")
    for name in [name for name, value in rest.items() if isinstance(value, dict)]:
        lines.append(f"{name}: {_format_values(rest.pop(name))}")
    if rest:
        title.append(f" {_format_values(rest)}", "not bold default")
    if not lines:
        return title
    return Group(title, Padding(Text("\n".join(lines)), (0, 0, 0, 2), expand=False))


def _format_values(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_format(value)}" for name, value in values.items())


def _format(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4f}".rstrip("0").rstrip(".")
    return str(value) or "none"

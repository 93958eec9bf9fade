"""The lineage as one HTML file that opens anywhere: it loads nothing."""

import json
from importlib import resources
from typing import Any

from pipelines.layered_layout import lay_out
from pipelines.lineage import Artifact, Execution, Lineage, format_time, version_of

_TEMPLATE = "lineage_page.html"
_HEADER, _ROW, _PADDING = 46, 22, 8  # pixels
_CHARACTER, _MARGIN = 7.6, 44
_COLUMN_GAP = 60


def render_page(lineage: Lineage) -> str:
    """A page with the graph, left to right in the order of the data, and the details of what is clicked."""
    template = resources.files("pipelines").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    data = json.dumps(_make_graph(lineage)).replace("<", "\\u003c")  # "</script>" would end it
    return template.replace("{{ graph }}", data)


def _make_graph(lineage: Lineage) -> dict[str, Any]:
    """What the page draws: nodes with their rows, and edges as SVG paths, in pixels."""
    focus = lineage.artifacts[lineage.focus]
    run = lineage.executions[focus.maker].run
    rows = {execution: lineage.outputs(execution) for execution in lineage.executions}
    heights = {execution: _HEADER + _ROW * len(made) + _PADDING for execution, made in rows.items()}
    edges = {(lineage.artifacts[use.artifact].maker, use.execution) for use in lineage.uses}
    layout = lay_out(heights, edges)
    labels = [e.node for e in lineage.executions.values()] + [_label(a) for a in lineage.artifacts.values()]
    width = _MARGIN + _CHARACTER * max(map(len, labels))
    lefts = {node: column * (width + _COLUMN_GAP) for node, column in layout.columns.items()}

    nodes, ports = [], {}
    for execution in lineage.executions.values():
        top = layout.tops[execution.id]
        for number, artifact in enumerate(rows[execution.id]):
            ports[artifact.id] = top + _HEADER + _ROW * (number + 0.5)
        nodes.append(
            {
                "id": f"e{execution.id}",
                "x": lefts[execution.id],
                "y": top,
                "height": heights[execution.id],
                "label": execution.node,
                "about": _about(execution),
                "beside": execution.id in lineage.beside,
                "otherRun": execution.run != run,
                "details": _describe_execution(execution),
                "rows": [
                    {
                        "id": f"a{artifact.id}",
                        "y": ports[artifact.id],
                        "label": _label(artifact),
                        "type": artifact.type,
                        "focus": artifact is focus,
                        "details": _describe_artifact(artifact),
                    }
                    for artifact in rows[execution.id]
                ],
            }
        )
    drawn = []
    for use in lineage.uses:
        maker = lineage.artifacts[use.artifact].maker
        columns = range(layout.columns[maker] + 1, layout.columns[use.execution])
        stops = [(lefts[maker], ports[use.artifact])]
        for column, height in zip(columns, layout.bends[maker, use.execution], strict=True):
            stops.append((column * (width + _COLUMN_GAP), height))
        stops.append((lefts[use.execution], layout.tops[use.execution] + _HEADER / 2))
        path = _draw(stops, width)
        drawn.append({"from": f"a{use.artifact}", "to": f"e{use.execution}", "name": use.name, "path": path})
    return {
        "title": _title(lineage),
        "width": max(lefts.values()) + width,
        "height": layout.height,
        "nodeWidth": width,
        "header": _HEADER,
        "focus": f"a{focus.id}",
        "types": sorted({artifact.type for artifact in lineage.artifacts.values()}),
        "nodes": nodes,
        "edges": drawn,
    }


def _draw(stops: list[tuple[float, float]], width: float) -> str:
    """A curve from the right side of the first column to the left side of the last, level within columns."""
    (x, y), *rest = stops
    path = f"M{x + width:.1f},{y:.1f}"
    x += width
    for number, (left, height) in enumerate(rest, start=1):
        middle = (x + left) / 2
        path += f" C{middle:.1f},{y:.1f} {middle:.1f},{height:.1f} {left:.1f},{height:.1f}"
        x, y = left, height
        if number < len(rest):
            x += width
            path += f" H{x:.1f}"
    return path


def _title(lineage: Lineage) -> str:
    focus = lineage.artifacts[lineage.focus]
    if not lineage.version:
        return f"What came of {focus.name} #{focus.id} ({focus.type})"
    is_live = " (live)" if lineage.version == lineage.live_version else ""
    return f"What version {lineage.version}{is_live} came of"


def _label(artifact: Artifact) -> str:
    version = version_of(artifact)
    return f"version {version}" if version else f"{artifact.name} #{artifact.id}"


def _about(execution: Execution) -> str:
    code = f" · code {execution.code_fingerprint[:8]}" if execution.code_fingerprint else ""
    return f"{execution.seconds:,.1f} s{code}"


def _describe_execution(execution: Execution) -> list[tuple[str, Any]]:
    return [
        ("execution", execution.id),
        ("component", execution.type),
        ("run", execution.run),
        ("started", format_time(execution.started_at)),
        ("seconds", execution.seconds),
        ("code fingerprint", execution.code_fingerprint or "TFX's own"),
        *execution.parameters.items(),
    ]


def _describe_artifact(artifact: Artifact) -> list[tuple[str, Any]]:
    return [
        ("artifact", artifact.id),
        ("type", artifact.type),
        ("uri", artifact.uri),
        ("made", format_time(artifact.created_at)),
        *artifact.properties.items(),
    ]

"""Draws a directed graph without cycles in columns, left to right, with room for the long edges.

After Sugiyama, Tagawa and Toda (1981): a column for each node by its longest path, a point in every column
that an edge passes, then sweeps that sort each column by the mean height of its neighbours. The heights are
the nearest to those means that keep the distances: an isotonic regression.
"""

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
from scipy.optimize import isotonic_regression

_GAP = 22.0  # between two neighbours of a column
_BEND_HEIGHT = 4.0  # of a point that an edge passes
_NUM_SWEEPS = 12
_Edge = tuple[int, int]
_Bend = tuple[int, int, int]  # an edge and the column it passes
_Node = int | _Bend


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where everything goes.

    Attributes:
      columns: each node's column, from 0.
      tops: each node's upper edge; the highest is at 0.
      bends: for each edge, the height at which it passes each column between its ends.
      height: of the whole.
    """

    columns: dict[int, int]
    tops: dict[int, float]
    bends: dict[_Edge, list[float]]
    height: float


def lay_out(heights: Mapping[int, float], edges: Iterable[_Edge]) -> Layout:
    """Places nodes so that every edge goes to the right.

    Args:
      heights: each node's height, by id.
      edges: pairs of ids.
    """
    edges = sorted(set(edges))
    columns = _assign_columns(heights, edges)
    sizes: dict[_Node, float] = {node: height for node, height in heights.items()}
    neighbours: dict[_Node, tuple[list[_Node], list[_Node]]] = defaultdict(lambda: ([], []))
    members: dict[int, list[_Node]] = defaultdict(list)
    for node in heights:
        members[columns[node]].append(node)
    for start, end in edges:
        passed = [(start, end, column) for column in range(columns[start] + 1, columns[end])]
        for bend in passed:
            sizes[bend] = _BEND_HEIGHT
            members[bend[2]].append(bend)
        stops: list[_Node] = [start, *passed, end]
        for left, right in itertools.pairwise(stops):
            neighbours[right][0].append(left)
            neighbours[left][1].append(right)

    centres: dict[_Node, float] = {}
    for column in members.values():
        centres |= _place(column, dict.fromkeys(column, 0.0), sizes)
    for sweep in range(_NUM_SWEEPS):
        side = sweep % 2  # the neighbours to the left, going right, and the other way round
        for number in sorted(members, reverse=side == 1):
            column = members[number]
            wanted = {
                node: float(np.mean([centres[n] for n in neighbours[node][side]] or [centres[node]]))
                for node in column
            }
            column.sort(key=lambda node: (wanted[node], centres[node]))
            centres |= _place(column, wanted, sizes)
    top = min(centres[node] - sizes[node] / 2 for node in centres)
    bottom = max(centres[node] + sizes[node] / 2 for node in centres)
    return Layout(
        columns=columns,
        tops={node: centres[node] - sizes[node] / 2 - top for node in heights},
        bends={
            (start, end): [centres[start, end, c] - top for c in range(columns[start] + 1, columns[end])]
            for start, end in edges
        },
        height=bottom - top,
    )


def _assign_columns(nodes: Iterable[int], edges: list[_Edge]) -> dict[int, int]:
    """As far left as an edge allows; but what has no predecessor stands beside its first user."""
    before, after = defaultdict(list), defaultdict(list)
    for start, end in edges:
        before[end].append(start)
        after[start].append(end)
    columns: dict[int, int] = {}
    waiting = list(nodes)
    while waiting:
        ready = [node for node in waiting if all(other in columns for other in before[node])]
        for node in ready:
            columns[node] = max((columns[other] + 1 for other in before[node]), default=0)
        waiting = [node for node in waiting if node not in columns]
    for node in columns:
        if not before[node] and after[node]:
            columns[node] = min(columns[other] for other in after[node]) - 1
    return columns


def _place(
    column: list[_Node], wanted: Mapping[_Node, float], sizes: Mapping[_Node, float]
) -> dict[_Node, float]:
    """The centres nearest to the wanted ones, in the column's order and without overlap."""
    half = np.array([sizes[node] / 2 for node in column])
    offsets = np.concatenate([[0.0], np.cumsum(half[:-1] + half[1:] + _GAP)])
    nearest = isotonic_regression(np.array([wanted[node] for node in column]) - offsets).x
    return dict(zip(column, (nearest + offsets).tolist(), strict=True))

"""The live view of a run's nodes, on stderr."""

import time
from types import TracebackType
from typing import IO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from pipelines.node_status import NodeStatus

_MARKS = {"waiting": "·", "running": "▸", "done": "✓", "cached": "=", "skipped": "-", "failed": "✗"}


class NodeView:
    """A table of the nodes that follows the run; plain lines where stderr is no terminal.

    Args:
      stream: where it is drawn.
    """

    def __init__(self, stream: IO[str]):
        self._console = Console(file=stream, markup=False, highlight=False)
        self._note = ""
        self._start = time.monotonic()
        self.statuses: list[NodeStatus] = []
        self._live = Live(console=self._console, get_renderable=self._render, refresh_per_second=4)

    def __enter__(self) -> "NodeView":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def note(self, text: str) -> None:
        """Says what goes on before the first node."""
        self._note = text
        if not self._console.is_terminal:
            self._console.print(text)

    def say(self, text: str) -> None:
        """Says something that stays above the nodes."""
        self._console.print(text, soft_wrap=True)

    def start(self, names: list[str]) -> None:
        """Lists the nodes, all waiting."""
        self.statuses = [NodeStatus(name) for name in names]

    def update(self, status: NodeStatus) -> None:
        """Takes in a node's new state."""
        place = next(i for i, known in enumerate(self.statuses) if known.name == status.name)
        self.statuses[place] = status
        self._start = time.monotonic()
        if not self._console.is_terminal and status.state != "running":
            self._console.print(f"{_MARKS[status.state]} {status.name} {status.state} {status.seconds:.1f} s")

    def _render(self) -> Table:
        table = Table(box=None, show_header=False)
        if not self.statuses:
            table.add_row(self._note)
        for status in self.statuses:
            running = status.state == "running"
            seconds = time.monotonic() - self._start if running else status.seconds
            shown = "" if status.state in ("waiting", "skipped") else f"{seconds:.1f} s"
            table.add_row(_MARKS[status.state], status.name, status.state, shown)
        return table

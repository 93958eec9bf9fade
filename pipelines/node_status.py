"""How far a node of a run is."""

import dataclasses


@dataclasses.dataclass
class NodeStatus:
    """A node and its state.

    Attributes:
      name: the node's id.
      state: waiting, running, done, cached, skipped or failed.
      seconds: how long it ran.
    """

    name: str
    state: str = "waiting"
    seconds: float = 0.0

"""The nodes of the pipeline, and what they share."""

from typing import Any

_ARTIFACTS = ("GateReport", "IndexReport", "ReportPage")


def __getattr__(name: str) -> Any:
    """The artifact types by the names that TFX records (`components.GateReport`), imported when asked for."""
    if name not in _ARTIFACTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from components import artifacts

    return getattr(artifacts, name)

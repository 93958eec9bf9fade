from components.artifacts import GateReport, IndexReport

__all__ = ["GateReport", "IndexReport"]

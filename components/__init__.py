from components.artifacts import GateReport, IndexReport, ReportPage

__all__ = ["GateReport", "IndexReport", "ReportPage"]

"""The artifact types that TFX does not have."""

from tfx.types.artifact import Artifact


class IndexReport(Artifact):
    """`index_report.json`: recall of the ScaNN index against the exact one, and both latencies."""

    TYPE_NAME = "components.IndexReport"


class GateReport(Artifact):
    """`gate_report.json`: every check of a gate, its value, its bound and the verdict."""

    TYPE_NAME = "components.GateReport"


class ReportPage(Artifact):
    """`report.html`: what came of a run, for a browser."""

    TYPE_NAME = "components.ReportPage"

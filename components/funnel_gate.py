"""FunnelGate: the stages' reports, merged into the one blessing Pusher takes."""

import os
from collections.abc import Mapping
from typing import Any

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types.artifact import Artifact
from tfx.types.standard_artifacts import Model, ModelBlessing

from components.artifacts import GateReport
from components.flavours import CONTENT_PROPERTY, compute_content_hash, package_folders
from components.gates import REPORT_FILE, read_json, write_json


@component
def FunnelGate(
    packages: InputArtifact[Model],
    retrieval: InputArtifact[GateReport],
    prerank: InputArtifact[GateReport],
    rank: InputArtifact[GateReport],
    blessing: OutputArtifact[ModelBlessing],
    report: OutputArtifact[GateReport],
    code_fingerprint: Parameter[str],
) -> None:
    """Blesses the candidate if every check of every stage passed.

    Args:
      packages: the candidate.
      retrieval: the checks of the retrieval stage.
      prerank: the checks of pre-ranking.
      rank: the checks of ranking.
      blessing: `blessed` is 1 or 0, as TFX's Pusher reads it, and `CONTENT_PROPERTY` is what was judged.
      report: the checks of all stages.
      code_fingerprint: see `pipelines.code_fingerprint`.
    """
    bless(packages, {"retrieval": retrieval, "prerank": prerank, "rank": rank}, blessing, report)


def bless(packages: Artifact, stages: Mapping[str, Artifact], blessing: Artifact, report: Artifact) -> None:
    """Merges the stages' reports into one and blesses what passed every check of it.

    Args:
      packages: the candidate.
      stages: the report of each stage, in the order of the funnel.
      blessing: gets `blessed` and the hash of what was judged.
      report: gets `REPORT_FILE`; in the lineage the checks stand at the stages' own reports.

    Raises:
      ValueError: if a stage has no check: nothing would hold it.
    """
    checks = merge_checks({s: read_json(os.path.join(a.uri, REPORT_FILE)) for s, a in stages.items()})
    blessed = all(check["passed"] for check in checks)
    blessing.set_int_custom_property("blessed", int(blessed))
    blessing.set_string_custom_property(CONTENT_PROPERTY, compute_content_hash(package_folders(packages.uri)))
    with fileio.open(os.path.join(blessing.uri, "BLESSED" if blessed else "NOT_BLESSED"), "w") as stream:
        stream.write("")
    write_json({"blessed": blessed, "checks": checks}, os.path.join(report.uri, REPORT_FILE))


def merge_checks(reports: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The checks of all stages, each with its stage.

    Raises:
      ValueError: if a stage has no check.
    """
    for stage, report in reports.items():
        if not report["checks"]:
            raise ValueError(f"the {stage} gate's report has no check: expected at least one")
    return [{"stage": stage, **check} for stage, report in reports.items() for check in report["checks"]]

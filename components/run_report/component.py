"""RunReport: what came of the run, on one page."""

# mypy: disable-error-code="type-arg,attr-defined,arg-type,call-overload"
# (TFX reads the annotations itself: inside the body they are artifacts and values)

import os
from collections.abc import Mapping
from typing import Any

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types.artifact import Artifact
from tfx.types.standard_artifacts import ModelEvaluation, ModelRun, PushedModel

from components.artifacts import GateReport, IndexReport, ReportPage
from components.gates import REPORT_FILE, read_json
from components.index_builder.build import REPORT_FILE as INDEX_REPORT_FILE
from components.retrieval_evaluator.evaluate import METRICS_FILE
from components.run_report.curves import read_curves
from components.run_report.page import RunFacts, render_page
from components.score_evaluation.evaluate import METRICS_FILE as SCORE_METRICS_FILE
from components.version_pusher import REASON_PROPERTY

PAGE_FILE = "report.html"


@component
def RunReport(
    gate_report: InputArtifact[GateReport],
    pushed_model: InputArtifact[PushedModel],
    index_report: InputArtifact[IndexReport],
    retrieval_evaluation: InputArtifact[ModelEvaluation],
    prerank_evaluation: InputArtifact[ModelEvaluation],
    rank_evaluation: InputArtifact[ModelEvaluation],
    retrieval_run: InputArtifact[ModelRun],
    item_to_item_run: InputArtifact[ModelRun],
    prerank_teacher_run: InputArtifact[ModelRun],
    prerank_control_run: InputArtifact[ModelRun],
    prerank_student_run: InputArtifact[ModelRun],
    rank_run: InputArtifact[ModelRun],
    page: OutputArtifact[ReportPage],
    is_synthetic: Parameter[bool],
    code_fingerprint: Parameter[str],
) -> None:
    """Writes `PAGE_FILE`; see `write_report`.

    Args:
      gate_report: the FunnelGate's.
      pushed_model: the Pusher's.
      index_report: the IndexBuilder's.
      retrieval_evaluation: the RetrievalEvaluator's.
      prerank_evaluation: the PrerankEvaluator's.
      rank_evaluation: the RankEvaluator's.
      retrieval_run: the RetrievalTrainer's, as those below are their trainers'.
      item_to_item_run: ItemToItemTrainer.
      prerank_teacher_run: PrerankTeacherTrainer.
      prerank_control_run: PrerankControlTrainer.
      prerank_student_run: PrerankStudentTrainer.
      rank_run: RankTrainer.
      page: the page.
      is_synthetic: whether the events are simulated; the page says so.
      code_fingerprint: see `pipelines.code_fingerprint`.
    """
    write_report(
        page,
        gate_report=gate_report,
        pushed_model=pushed_model,
        index_report=index_report,
        retrieval_evaluation=retrieval_evaluation,
        prerank_evaluation=prerank_evaluation,
        rank_evaluation=rank_evaluation,
        retrieval_runs={"users to items": retrieval_run, "items to items": item_to_item_run},
        prerank_runs={
            "teacher": prerank_teacher_run,
            "control": prerank_control_run,
            "student": prerank_student_run,
        },
        rank_run=rank_run,
        is_synthetic=is_synthetic,
    )


def write_report(
    page: Artifact,
    *,
    gate_report: Artifact,
    pushed_model: Artifact,
    index_report: Artifact,
    retrieval_evaluation: Artifact,
    prerank_evaluation: Artifact,
    rank_evaluation: Artifact,
    retrieval_runs: Mapping[str, Artifact],
    prerank_runs: Mapping[str, Artifact],
    rank_run: Artifact,
    is_synthetic: bool,
) -> None:
    """Writes the page, for a run that pushed and for one that was blocked alike.

    Args:
      page: gets `PAGE_FILE`.
      gate_report: the checks of all stages.
      pushed_model: what Pusher says that it did.
      index_report: recall and latency of the index.
      retrieval_evaluation: the metrics of retrieval.
      prerank_evaluation: those of pre-ranking.
      rank_evaluation: those of ranking.
      retrieval_runs: TensorBoard's files by trainer.
      prerank_runs: the same; the trainers are compared in this order.
      rank_run: of the ranker's trainer.
      is_synthetic: whether the events are simulated.

    Raises:
      ValueError: if an event file is damaged.
    """
    facts = RunFacts(
        gate=_read(gate_report, REPORT_FILE),
        pushed_version=pushed_model.get_string_custom_property("pushed_version"),
        not_pushed_reason=pushed_model.get_string_custom_property(REASON_PROPERTY),
        retrieval_curves={name: read_curves(run.uri) for name, run in retrieval_runs.items()},
        prerank_curves={name: read_curves(run.uri) for name, run in prerank_runs.items()},
        retrieval=_read(retrieval_evaluation, METRICS_FILE),
        rank_curves=read_curves(rank_run.uri),
        prerank=_read(prerank_evaluation, SCORE_METRICS_FILE),
        rank=_read(rank_evaluation, SCORE_METRICS_FILE),
        index=_read(index_report, INDEX_REPORT_FILE),
        is_synthetic=is_synthetic,
    )
    with fileio.open(os.path.join(page.uri, PAGE_FILE), "w") as stream:
        stream.write(render_page(facts))


def _read(artifact: Artifact, file: str) -> dict[str, Any]:
    return read_json(os.path.join(artifact.uri, file))

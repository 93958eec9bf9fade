"""AnomalyGate: stops the run at data that breaks its schema or knows the future.

TFX's ExampleValidator marks the first and goes on; the second no statistic of one feature shows.
"""

import os
from collections.abc import Iterator

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact
from tfx.types.standard_artifacts import ExampleAnomalies, Examples

from components.point_in_time import find_leaks
from schemas import features as f


class AnomalyError(ValueError):
    """The data breaks the curated schema; the message lists feature, split and what was found."""


class LeakError(ValueError):
    """Rows know the future; the message lists example type, split and what was found."""


@component
def AnomalyGate(
    impression_anomalies: InputArtifact[ExampleAnomalies],
    page_anomalies: InputArtifact[ExampleAnomalies],
    item_anomalies: InputArtifact[ExampleAnomalies],
    impressions: InputArtifact[Examples],
    pages: InputArtifact[Examples],
    code_fingerprint: Parameter[str],
) -> None:
    """Fails if any split of any example type has an anomaly, or a feature from the future."""
    found = [
        f"{kind} examples, {line}"
        for kind, artifact in (
            ("impression", impression_anomalies),
            ("page", page_anomalies),
            ("item", item_anomalies),
        )
        for split in artifact_utils.decode_split_names(artifact.split_names)
        for line in describe_anomalies(_anomalies_path(artifact, split), split)
    ]
    if found:
        raise AnomalyError(
            "the data breaks the curated schema:\n  "
            + "\n  ".join(found)
            + "\nMend the data, or the feature's entry under schemas/ if the data is right."
        )
    leaks = [
        f"{kind} examples, {line}"
        for kind, artifact, anomalies in (
            ("impression", impressions, impression_anomalies),
            ("page", pages, page_anomalies),
        )
        for splits in [artifact_utils.decode_split_names(artifact.split_names)]
        for line in find_leaks(artifact.uri, splits, read_interactions(_anomalies_path(anomalies, splits[0])))
    ]
    if leaks:
        raise LeakError(
            "features from the future:\n  "
            + "\n  ".join(leaks)
            + "\nExpected what was known strictly before, and splits one after the other: mend the ingestion "
            "(components/event_ingest)."
        )


def _anomalies_path(artifact: Artifact, split: str) -> str:
    return os.path.join(artifact.uri, f"Split-{split}", "SchemaDiff.pb")


def _read_anomalies(path: str) -> anomalies_pb2.Anomalies:
    with fileio.open(path, "rb") as stream:
        return anomalies_pb2.Anomalies.FromString(stream.read())


def read_interactions(path: str) -> tuple[f.Interaction, ...]:
    """The interactions of the schema that examples were validated by; it stands beside their anomalies.

    Args:
      path: the serialized `Anomalies` proto of a split.
    """
    return f.read_interactions(_read_anomalies(path).baseline)


def describe_anomalies(path: str, split: str) -> Iterator[str]:
    """One line per anomaly that ExampleValidator found in a split.

    Args:
      path: its serialized `Anomalies` proto.
      split: the split's name, for the message.
    """
    anomalies = _read_anomalies(path)
    if anomalies.HasField("dataset_anomaly_info"):
        yield f"split {split}: {anomalies.dataset_anomaly_info.description}"
    for feature, info in sorted(anomalies.anomaly_info.items()):
        yield f"split {split}, feature {feature}: {info.description}"

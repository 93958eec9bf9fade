"""AnomalyGate: stops the run at data that breaks its schema; TFX's ExampleValidator only marks it."""

import os
from collections.abc import Iterator

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.v1.dsl.components import InputArtifact, Parameter, component
from tfx.v1.types.standard_artifacts import ExampleAnomalies


class AnomalyError(ValueError):
    """The data breaks the curated schema; the message lists feature, split and what was found."""


@component
def AnomalyGate(
    impression_anomalies: InputArtifact[ExampleAnomalies],
    page_anomalies: InputArtifact[ExampleAnomalies],
    item_anomalies: InputArtifact[ExampleAnomalies],
    code_fingerprint: Parameter[str],
) -> None:
    """Fails if any split of any example type has an anomaly."""
    found = [
        f"{kind} examples, {line}"
        for kind, artifact in (
            ("impression", impression_anomalies),
            ("page", page_anomalies),
            ("item", item_anomalies),
        )
        for split in artifact_utils.decode_split_names(artifact.split_names)
        for line in describe_anomalies(os.path.join(artifact.uri, f"Split-{split}", "SchemaDiff.pb"), split)
    ]
    if found:
        raise AnomalyError(
            "the data breaks the curated schema:\n  "
            + "\n  ".join(found)
            + "\nMend the data, or the feature's entry under schemas/ if the data is right."
        )


def describe_anomalies(path: str, split: str) -> Iterator[str]:
    """One line per anomaly that ExampleValidator found in a split.

    Args:
      path: its serialized `Anomalies` proto.
      split: the split's name, for the message.
    """
    with fileio.open(path, "rb") as stream:
        anomalies = anomalies_pb2.Anomalies.FromString(stream.read())
    if anomalies.HasField("dataset_anomaly_info"):
        yield f"split {split}: {anomalies.dataset_anomaly_info.description}"
    for feature, info in sorted(anomalies.anomaly_info.items()):
        yield f"split {split}, feature {feature}: {info.description}"

"""EventIngest: the event log to impression, page and item examples, on Beam."""

import apache_beam as beam
from tfx.dsl.component.experimental.annotations import BeamComponentParameter, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples

from components.event_ingest.ingest import SplitFractions, ingest_events

DRAWN_PER_CLICK = "drawn_negatives_per_click"  # custom property of the impressions


@component(use_beam=True)
def EventIngest(
    impressions: OutputArtifact[Examples],
    pages: OutputArtifact[Examples],
    items: OutputArtifact[Examples],
    events_dir: Parameter[str],
    events_fingerprint: Parameter[str],
    schema_fingerprint: Parameter[str],
    code_fingerprint: Parameter[str],
    eval_fraction: Parameter[float],
    test_fraction: Parameter[float],
    negatives_per_click: Parameter[int],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Validates the log, joins, computes point-in-time histories and splits by time.

    The fingerprints make an edited log, schema or source run again: TFX caches by parameter. The rows and the
    days of each split are the examples' custom properties, for the lineage, and so is how many negatives were
    drawn for each click.
    """
    ingested = ingest_events(
        events_dir,
        {"impression": impressions.uri, "page": pages.uri, "item": items.uri},
        SplitFractions(eval_fraction, test_fraction),
        beam_pipeline,
        negatives_per_click,
    )
    impressions.set_int_custom_property(DRAWN_PER_CLICK, ingested.drawn_per_click)
    for example_type, artifact in (("impression", impressions), ("page", pages), ("item", items)):
        rows = {split: n for (kind, split), n in ingested.num_rows.items() if kind == example_type}
        artifact.split_names = "[" + ",".join(f'"{split}"' for split in rows) + "]"
        for split, count in rows.items():
            artifact.set_int_custom_property(f"{split}_rows", count)
            if split in ingested.days:
                first, last = ingested.days[split]
                artifact.set_string_custom_property(f"{split}_first_day", first.isoformat())
                artifact.set_string_custom_property(f"{split}_last_day", last.isoformat())

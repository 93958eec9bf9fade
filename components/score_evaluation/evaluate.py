"""Evaluates scorers of pairs on the shown rows of a split, by TensorFlow Model Analysis and row by row."""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pandas as pd
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_model_analysis.extractors.slice_key_extractor import SliceKeyExtractor

from components.score_evaluation import tfma_metrics as m
from components.score_evaluation.scoring import (
    CLICKS,
    ScoredRows,
    Scorer,
    ScoreRows,
    read_batches,
    to_extracts,
)
from schemas import features as f

METRICS_FILE = "metrics.json"
SCORES_FILE = "scores.parquet"
USER_COLUMN = "user"
REQUEST_COLUMN = "request"
ALL = "all"
MODELS = "models"
REPORTED = (m.AUC, m.GAUC, m.LOG_LOSS, m.CALIBRATION)
SLICE_FEATURES = ("gender", "device")  # of those a source has
_BATCH = 4096


def evaluate_scorers(
    scorers: Mapping[str, Scorer],
    impressions_uri: str,
    slice_features: Sequence[str],
    output_dir: str,
    pipeline: beam.Pipeline,
    *,
    drawn_per_click: int,
    split: str = "test",
) -> dict[str, Any]:
    """Scores every row by every model and measures AUC, GAUC, log loss and calibration, by slice.

    Args:
      scorers: two or more, by name; all predict `clicked`.
      impressions_uri: raw impression examples.
      slice_features: string features, one value at most, by which there are slices.
      output_dir: for what TFMA writes (`tfma.load_eval_result` reads it), for `METRICS_FILE`, and for
        `SCORES_FILE`: a row for each shown row with `USER_COLUMN` and `REQUEST_COLUMN` (int32, codes),
        `clicked` (int8) and the probability of a click by each model (float32); that is 9 bytes a row and 4
        for each model, which are held in memory.
      pipeline: the Beam pipeline to build on; it is run here.
      drawn_per_click: how many rows without a click were drawn for each with one, see
        `event_ingest.negatives`; for the reader.
      split: what is evaluated.

    Returns:
      what `METRICS_FILE` holds. What is not defined, as AUC of one class, is None.

    Raises:
      ValueError: if the split holds no row.
      ScoreError: if a model's score is no probability.
    """
    files = tf.io.gfile.glob(f"{impressions_uri}/Split-{split}/*")
    os.makedirs(output_dir, exist_ok=True)
    config = make_eval_config(scorers, slice_features)
    with pipeline as p:
        rows = (
            p
            | "Files" >> beam.Create(files)
            | "SpreadFiles" >> beam.Reshuffle()
            | "ReadBatches" >> beam.FlatMap(read_batches, _BATCH)
            | "Score" >> beam.ParDo(ScoreRows(scorers, slice_features))
        )
        _ = (
            rows
            | "KeepClicks" >> beam.Map(_keep_clicks)
            | "Gather" >> beam.combiners.ToList()
            | "WriteScores" >> beam.Map(_write_scores, output_dir, split)
        )
        _ = (
            rows
            | "ToExtracts" >> beam.FlatMap(to_extracts)
            | "FindSlices" >> SliceKeyExtractor(eval_config=config).ptransform
            | "Evaluate" >> tfma.evaluators.MetricsPlotsAndValidationsEvaluator(config).ptransform
            | "Write" >> tfma.WriteResults(tfma.default_writers(output_dir, eval_config=config))
        )
    scores = pd.read_parquet(os.path.join(output_dir, SCORES_FILE), columns=[REQUEST_COLUMN])
    metrics = _make_report(tfma.load_metrics(output_dir), scorers, scores)
    report = {"split": split, "drawn_per_click": drawn_per_click, **metrics}
    with tf.io.gfile.GFile(os.path.join(output_dir, METRICS_FILE), "w") as stream:
        json.dump(report, stream, indent=2)
    return report


def make_eval_config(scorers: Mapping[str, Scorer], slice_features: Sequence[str]) -> tfma.EvalConfig:
    """What TFMA measures: `clicked` of all rows; `converted`, where it is predicted, of those clicked."""
    names = list(scorers)
    metric = tfma.MetricConfig(class_name=m.ScoreMetrics.__name__, module=m.__name__)
    specs = [tfma.MetricsSpec(model_names=names, output_names=[f.CLICKED], metrics=[metric])]
    converting = [name for name in names if f.CONVERTED in scorers[name].tasks]
    if converting:
        weights = tfma.ExampleWeightOptions(weighted=True)
        specs.append(
            tfma.MetricsSpec(
                model_names=converting, output_names=[f.CONVERTED], metrics=[metric], example_weights=weights
            )
        )
    return tfma.EvalConfig(
        model_specs=[tfma.ModelSpec(name=name) for name in names],
        metrics_specs=specs,
        slicing_specs=[
            tfma.SlicingSpec(),
            *(tfma.SlicingSpec(feature_keys=[name]) for name in (CLICKS, *slice_features)),
        ],
    )


def find_slice_features(schema: str) -> list[str]:
    """Those of `SLICE_FEATURES` that a source has, as strings of one value at most."""
    features = f.read_features(f.load_schema(schema, f.ExampleType.IMPRESSION), f.Role.QUERY)
    found = {x.name for x in features if x.type == schema_pb2.BYTES and not x.is_list}
    return [name for name in SLICE_FEATURES if name in found]


def _keep_clicks(rows: ScoredRows) -> pd.DataFrame:
    """A batch as a table of users' and requests' hashes, labels and scores."""
    scores = {name: tasks[f.CLICKED] for name, tasks in rows.scores.items()}
    keys = {USER_COLUMN: rows.users, REQUEST_COLUMN: rows.requests}
    return pd.DataFrame({**keys, f.CLICKED: rows.labels[f.CLICKED], **scores})


def _write_scores(batches: list[pd.DataFrame], output_dir: str, split: str) -> None:
    """All batches as one table, the hashes as codes."""
    if not batches:
        raise ValueError(f"the {split} split holds no row: nothing to evaluate on")
    table = pd.concat(batches, ignore_index=True)
    for column in (USER_COLUMN, REQUEST_COLUMN):
        table[column] = np.unique(table[column], return_inverse=True)[1].astype(np.int32)
    table.to_parquet(os.path.join(output_dir, SCORES_FILE))


def _make_report(
    slices: Iterable[tfma.MetricsForSlice], scorers: Mapping[str, Scorer], scores: pd.DataFrame
) -> dict[str, Any]:
    """TFMA's results by task, model and slice."""
    found: dict[str, dict[str, dict[str, dict[str, float]]]] = {
        task: {name: {} for name, x in scorers.items() if task in x.tasks}
        for task in (f.CLICKED, f.CONVERTED)
    }
    for part in slices:
        keys = part.slice_key.single_slice_keys
        place = ", ".join(f"{key.column}={key.bytes_value.decode()}" for key in keys) or ALL
        for x in part.metric_keys_and_values:
            by_slice = found[x.key.output_name][x.key.model_name]
            by_slice.setdefault(place, {})[x.key.name] = x.value.double_value.value
    everything = next(iter(found[f.CLICKED].values()))[ALL]
    return {
        "num_rows": len(scores),
        "num_users": int(everything[m.USERS]),
        "num_requests": int(scores[REQUEST_COLUMN].nunique()),
        "dropped_users_share": 1.0 - everything[m.KEPT_USERS],
        "dropped_rows_share": 1.0 - everything[m.KEPT_ROWS],
        **{key: _to_plain(found[task]) for key, task in ((MODELS, f.CLICKED), (f.CONVERTED, f.CONVERTED))},
    }


def _to_plain(
    models: dict[str, dict[str, dict[str, float]]],
) -> dict[str, dict[str, dict[str, float | int | None]]]:
    """The metrics of each model and slice, in one order; None for what is not defined."""
    return {
        name: {
            place: {
                **{x: values[x] if math.isfinite(values[x]) else None for x in REPORTED},
                **{x: int(values[x]) for x in (m.ROWS, m.USERS)},
            }
            for place, values in sorted(by_slice.items(), key=lambda item: (item[0] != ALL, item[0]))
        }
        for name, by_slice in models.items()
    }

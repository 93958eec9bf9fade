"""How much of what the exact package answers the ScaNN package answers too, asked as both will be served."""

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf
from scann.scann_ops.py import scann_ops  # noqa: F401  (registers the op of the scann flavour)

from components.index_builder.package import DEFAULT_SIGNATURE, EXCLUDE, SIMILAR_SIGNATURE
from components.index_builder.scann_index import compute_recall
from components.retrieval_evaluator.query_set import QueryBatch
from schemas import features as f
from trainers.retrieval.export import EXAMPLES

_MAX_BATCHES = 4


def measure_agreement(exact: Any, scann: Any, queries: Iterable[QueryBatch]) -> dict[str, Any]:
    """Asks both packages for users and for items.

    Args:
      exact: the exact package, see `index_builder.package.load_package`.
      scann: the ScaNN package.
      queries: the test queries, of which the first few hundred ask; their right answers ask for what is
        similar.

    Returns:
      `depth`, the number of items asked for; `recall` and `similar_recall`, the mean share of the exact
      package's items that the ScaNN package returns.
    """
    batches = list(itertools.islice(queries, _MAX_BATCHES))
    examples = tf.constant(np.concatenate([batch.examples for batch in batches]))
    items = tf.constant(np.unique(np.concatenate([b.targets[b.target_rows >= 0] for b in batches])))
    asked = {
        "recall": (DEFAULT_SIGNATURE, {EXAMPLES: examples}),
        "similar_recall": (SIMILAR_SIGNATURE, {f.ITEM_ID: items, EXCLUDE: tf.fill([len(items), 0], "")}),
    }
    report: dict[str, Any] = {}
    for name, (signature, inputs) in asked.items():
        answers = [model.signatures[signature](**inputs)[f.ITEM_ID].numpy() for model in (exact, scann)]
        report["depth"] = answers[0].shape[1]
        _, rows = np.unique(np.concatenate(answers), return_inverse=True)
        first, second = np.split(rows.reshape(-1, report["depth"]), 2)
        report[name] = compute_recall(second, first)
    return report

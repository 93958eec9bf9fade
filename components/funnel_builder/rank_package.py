"""Ranking as it is served: a user's history, encoded once, against the features of the candidates."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from components.funnel_builder.catalogue import CANDIDATES, Catalogue, check_candidates
from components.index_builder.package import check_histories
from trainers.ranking import export
from trainers.raw_features import EXAMPLES, SCORE_SIGNATURE
from trainers.scorers.data import REQUEST

RANK_SIGNATURE = "rank"
RANK_EXAMPLES_SIGNATURE = "rank_examples"
RANK_SCORE_SIGNATURE = "rank_score_examples"
MAX_CANDIDATES = 1024  # of a row
MAX_PAIRS = 8192  # of a request; each takes some 50 KB while it is scored


class RankStage(tf.Module):
    """The signatures of ranking.

    Args:
      ranker: its SavedModel, loaded; see `trainers.ranking.export.ServedRanker`.
      catalogue: the items.
      item_features: [N, ...] what the ranker's `encode_items` gives, by name, in the catalogue's order.
      depth: items returned at most.
    """

    def __init__(
        self, ranker: Any, catalogue: Catalogue, item_features: Mapping[str, np.ndarray], depth: int
    ):
        super().__init__()
        self._ranker = ranker
        self._catalogue = catalogue
        self._depth = depth
        self._item_features = {
            name: tf.Variable(values, trainable=False, name=f"rank_{name}")
            for name, values in sorted(item_features.items())
        }

    def _answer(
        self, signature: str, query: Mapping[str, tf.Tensor], candidates: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Ranks each row's candidates, see `Catalogue.pick_best`.

        Args:
          signature: of the ranker, that takes the query.
          query: of B rows.
          candidates: [B, M] item ids; an unknown one and "" are none, a repeated one is one.
        """
        rows = self._catalogue.find_rows(candidates)
        shape = tf.shape(rows)
        flat = tf.maximum(tf.reshape(rows, [-1]), 0)
        items = {name: tf.gather(values, flat) for name, values in self._item_features.items()}
        request = tf.repeat(tf.range(shape[0]), shape[1])
        scored = self._ranker.signatures[signature](**query, **items, **{REQUEST: request})
        # In one order, see `pick_best`.
        probabilities = {task: tf.reshape(x, shape) for task, x in sorted(scored.items())}
        return self._catalogue.pick_best(rows, probabilities, self._depth)

    @tf.function(
        autograph=False,
        input_signature=[
            tf.TensorSpec([None], tf.string, EXAMPLES),
            tf.TensorSpec([None, None], tf.string, CANDIDATES),
        ],
    )
    def from_examples(self, examples: tf.Tensor, candidate_item_id: tf.Tensor) -> dict[str, tf.Tensor]:
        """Candidates [B, M] ranked for serialized tf.Examples [B] with the query features."""
        rows = {EXAMPLES: examples, CANDIDATES: candidate_item_id}
        with tf.control_dependencies(check_candidates(rows, MAX_CANDIDATES, MAX_PAIRS)):
            candidates = tf.identity(candidate_item_id)
        return self._answer(export.RANK_SIGNATURE, {EXAMPLES: examples}, candidates)

    def from_raw(self) -> tf.types.experimental.ConcreteFunction:
        """The signature for JSON clients: dense raw features, see `RawFeatures.dense_signature`."""
        taken = self._ranker.signatures[export.RANK_RAW_SIGNATURE].structured_input_signature[1]
        signature = {name: x for name, x in taken.items() if name not in {*self._item_features, REQUEST}}
        signature[CANDIDATES] = tf.TensorSpec([None, None], tf.string, CANDIDATES)

        @tf.function(autograph=False)
        def answer(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            checks = check_candidates(inputs, MAX_CANDIDATES, MAX_PAIRS)
            with tf.control_dependencies([*checks, check_histories(inputs)]):
                candidates = tf.identity(inputs.pop(CANDIDATES))
            return self._answer(export.RANK_RAW_SIGNATURE, inputs, candidates)

        return answer.get_concrete_function(**signature)

    def signatures(self) -> dict[str, Any]:
        """What is served, by name."""
        return {
            RANK_SIGNATURE: self.from_raw(),
            RANK_EXAMPLES_SIGNATURE: self.from_examples,
            RANK_SCORE_SIGNATURE: self._ranker.signatures[SCORE_SIGNATURE],
        }

"""Pre-ranking as it is served: a user's vector against those of the candidates."""

from typing import Any

import numpy as np
import tensorflow as tf

from components.funnel_builder.catalogue import CANDIDATES, Catalogue, check_candidates
from components.index_builder.package import check_histories
from trainers.prerank import export
from trainers.raw_features import EXAMPLES, SCORE_SIGNATURE

PRERANK_SIGNATURE = "prerank"
PRERANK_EXAMPLES_SIGNATURE = "prerank_examples"
PRERANK_SCORE_SIGNATURE = "prerank_score_examples"
PRERANK_USER_SIGNATURE = "prerank_user_vector"
MAX_CANDIDATES = 16_384  # of a row
MAX_PAIRS = 262_144  # of a request; each takes as many bytes as an item's vector


class PrerankStage(tf.Module):
    """The signatures of pre-ranking.

    Args:
      student: the pre-ranking student's SavedModel, loaded; see `trainers.prerank.export.ServedStudent`.
      catalogue: the items.
      item_vectors: [N, W] the student's, in the catalogue's order; the vectors of all tasks side by side.
      depth: items returned at most.
    """

    def __init__(self, student: Any, catalogue: Catalogue, item_vectors: np.ndarray, depth: int):
        super().__init__()
        self._student = student
        self._catalogue = catalogue
        self._depth = depth
        self._item_vectors = tf.Variable(item_vectors, trainable=False, name="prerank_item_vectors")

    def _answer(self, user_vectors: tf.Tensor, candidates: tf.Tensor) -> dict[str, tf.Tensor]:
        """Ranks each row's candidates, see `Catalogue.pick_best`.

        Args:
          user_vectors: [B, W].
          candidates: [B, M] item ids; an unknown one and "" are none, a repeated one is one.
        """
        rows = self._catalogue.find_rows(candidates)
        vectors = tf.gather(self._item_vectors, tf.maximum(rows, 0))
        scored = self._student.signatures[export.SCORE_VECTORS_SIGNATURE](
            **{export.USER_VECTORS: user_vectors, export.ITEM_VECTORS: vectors}
        )
        return self._catalogue.pick_best(rows, scored, self._depth)

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
            users = self._student.signatures[export.USER_SIGNATURE](examples=examples)
            return self._answer(users[export.VECTORS], candidate_item_id)

    def from_raw(self) -> tf.types.experimental.ConcreteFunction:
        """The signature for JSON clients: dense raw features, see `RawFeatures.dense_signature`."""
        user_vector = self._student.signatures[export.USER_RAW_SIGNATURE]
        signature = dict(user_vector.structured_input_signature[1])
        signature[CANDIDATES] = tf.TensorSpec([None, None], tf.string, CANDIDATES)

        @tf.function(autograph=False)
        def answer(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            candidates = inputs[CANDIDATES]
            checks = check_candidates(inputs, MAX_CANDIDATES, MAX_PAIRS)
            with tf.control_dependencies([*checks, check_histories(inputs)]):
                users = user_vector(**{name: x for name, x in inputs.items() if name != CANDIDATES})
                return self._answer(users[export.VECTORS], candidates)

        return answer.get_concrete_function(**signature)

    def signatures(self) -> dict[str, Any]:
        """What is served, by name."""
        return {
            PRERANK_SIGNATURE: self.from_raw(),
            PRERANK_EXAMPLES_SIGNATURE: self.from_examples,
            PRERANK_SCORE_SIGNATURE: self._student.signatures[SCORE_SIGNATURE],
            PRERANK_USER_SIGNATURE: self._student.signatures[export.USER_SIGNATURE],
        }

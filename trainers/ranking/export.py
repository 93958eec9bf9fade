"""The trained ranker as a SavedModel that takes raw features; nothing is preprocessed outside it."""

from collections.abc import Mapping

import tensorflow as tf
import tensorflow_transform as tft

from schemas import features as f
from trainers.batches import make_dense_spec
from trainers.ranking.model import Ranker
from trainers.raw_features import EXAMPLES, SCORE_SIGNATURE, ServedModel, unpad
from trainers.scorers.data import REQUEST

ITEMS_SIGNATURE = "encode_items"
RANK_SIGNATURE = "rank_encoded"
RANK_RAW_SIGNATURE = "rank_encoded_raw"


class ServedRanker(ServedModel):
    """A ranker behind the Transform graph.

    Args:
      ranker: the trained model.
      transform_output: the Transform graph it was trained with.
    """

    def __init__(self, ranker: Ranker, transform_output: tft.TFTransformOutput):
        super().__init__(ranker, transform_output)
        features = ranker.features
        self._query = (*features.profile, *features.history)
        self._candidate = features.candidate
        self._tasks = ranker.config.tasks

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string, EXAMPLES)])
    def score_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """The probability [B] of each task, of serialized tf.Examples [B] of impressions."""
        raw = self._raw.parse(examples, f.Role.QUERY, f.Role.CANDIDATE)
        candidates = self._raw.encode(raw, self._candidate)
        return self._rank(raw, {**candidates, REQUEST: tf.range(tf.shape(examples)[0])})

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string, EXAMPLES)])
    def encode_items(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Ids [B] and encoded features [B, ...] of serialized tf.Examples [B] that hold the item features."""
        raw = self._raw.parse(examples, f.Role.CANDIDATE)
        return {f.ITEM_ID: raw[f.ITEM_ID], **self._raw.encode(raw, self._candidate)}

    def rank_encoded(self) -> tf.types.experimental.ConcreteFunction:
        """The probability [N] of each task, of encoded items and the requests that they are candidates of.

        Takes serialized tf.Examples [R] that hold the query features, what `encode_items` gives of N items
        and, as `REQUEST`, each one's request: a request's history is encoded once for all its candidates.
        """

        @tf.function(autograph=False)
        def rank(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            return self._rank(self._raw.parse(inputs.pop(EXAMPLES), f.Role.QUERY), inputs)

        return rank.get_concrete_function(
            **{EXAMPLES: tf.TensorSpec([None], tf.string, EXAMPLES)}, **self._candidate_signature()
        )

    def rank_encoded_raw(self) -> tf.types.experimental.ConcreteFunction:
        """The same as `rank_encoded` from dense raw features, see `RawFeatures.dense_signature`."""
        signature = self._raw.dense_signature(f.Role.QUERY)

        @tf.function(autograph=False)
        def rank(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            raw = unpad({name: inputs.pop(name) for name in signature})
            return self._rank(raw, inputs)

        return rank.get_concrete_function(**signature, **self._candidate_signature())

    def _candidate_signature(self) -> dict[str, tf.TensorSpec]:
        """Of encoded items by name, and `REQUEST`."""
        specs = {x.name: make_dense_spec(x) for x in self._candidate}
        specs[REQUEST] = tf.TensorSpec([None], tf.int32)
        return {name: tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in specs.items()}

    def _rank(
        self, raw: Mapping[str, tf.Tensor | tf.RaggedTensor], candidates: Mapping[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([check_order(raw)]):
            query = self._raw.encode(raw, self._query)
        probabilities = tf.sigmoid(self._model({**query, **candidates}).logits)
        return {task: probabilities[:, k] for k, task in enumerate(self._tasks)}


def check_order(raw: Mapping[str, tf.Tensor | tf.RaggedTensor]) -> tf.Operation:
    """Refuses a history whose events are not in the order of their times, on which its interests depend.

    Args:
      raw: the query features [R, (n)].
    """
    times = raw.get(f.HISTORY_TIMESTAMP)
    if times is None:
        return tf.no_op()
    values, row = times.flat_values, times.value_rowids()
    is_wrong = (values[1:] < values[:-1]) & (row[1:] == row[:-1])
    wanted = f"{f.HISTORY_TIMESTAMP}: expected the oldest event first, got another order in rows"
    return tf.debugging.Assert(~tf.reduce_any(is_wrong), [wanted, tf.boolean_mask(row[1:], is_wrong)])


def export_ranker(ranker: Ranker, transform_output: tft.TFTransformOutput, path: str) -> None:
    """Writes the SavedModel of a ranker.

    Args:
      ranker: the trained model.
      transform_output: the Transform graph it was trained with.
      path: the directory to write.
    """
    served = ServedRanker(ranker, transform_output)
    served.save(
        path,
        {
            SCORE_SIGNATURE: served.score_examples,
            ITEMS_SIGNATURE: served.encode_items,
            RANK_SIGNATURE: served.rank_encoded(),
            RANK_RAW_SIGNATURE: served.rank_encoded_raw(),
        },
    )

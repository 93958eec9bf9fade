"""The trained scorers as SavedModels that take raw features; nothing is preprocessed outside them."""

import json
import os
from collections.abc import Mapping, Sequence

import tensorflow as tf
import tensorflow_transform as tft

from schemas import features as f
from trainers.batches import make_dense_spec
from trainers.preprocessing import EncodedFeature
from trainers.prerank.model import TwoTowerStudent
from trainers.prerank.teachers import Teacher
from trainers.raw_features import EXAMPLES, EXTRA_DIR, SCORE_SIGNATURE, ServedModel, unpad
from trainers.scorers.data import REQUEST
from trainers.scorers.scores import Scores
from trainers.scorers.teaching import FrozenTeacher, TeacherError

USER_SIGNATURE = "user_vector"
USER_RAW_SIGNATURE = "user_vector_raw"
ITEM_SIGNATURE = "item_vector"
SCORE_VECTORS_SIGNATURE = "score_vectors"
VECTORS = "vectors"
USER_VECTORS = "user_vectors"
ITEM_VECTORS = "item_vectors"
ABOUT_FILE = "teacher.json"


class _ServedScorer(ServedModel):
    """A pair scorer behind the Transform graph.

    Args:
      scorer: the trained model.
      features: what it sees.
      tasks: what its logits are of.
      transform_output: the Transform graph it was trained with.
    """

    def __init__(
        self,
        scorer: Teacher | TwoTowerStudent,
        features: Sequence[EncodedFeature],
        tasks: Sequence[str],
        transform_output: tft.TFTransformOutput,
    ):
        super().__init__(scorer, transform_output)
        self._features = tuple(features)
        self._tasks = tuple(tasks)
        # A cross is made of both sides' features, none of its own.
        self._roles = {x.role for x in features} - {f.Role.CROSS}

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string, EXAMPLES)])
    def score_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """The probability [B] of each task, of serialized tf.Examples [B] of impressions."""
        inputs = self._raw.encode(self._raw.parse(examples, *self._roles), self._features)
        scores = self._model({**inputs, REQUEST: tf.range(tf.shape(examples)[0])})
        return self._name_probabilities(scores.logits)

    def _name_probabilities(self, logits: tf.Tensor) -> dict[str, tf.Tensor]:
        """By task, of logits [..., K]."""
        probabilities = tf.sigmoid(logits)
        return {task: probabilities[..., k] for k, task in enumerate(self._tasks)}


class ServedStudent(_ServedScorer):
    """Both towers of a student, and the pair scorer."""

    def _user_vectors(self, raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {VECTORS: self._model.user_vectors(self._raw.encode(raw, self._model.query_features))}

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string, EXAMPLES)])
    def user_vector(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Vectors [B, K * D] of serialized tf.Examples [B] that hold the query features."""
        return self._user_vectors(self._raw.parse(examples, f.Role.QUERY))

    def user_vector_raw(self) -> tf.types.experimental.ConcreteFunction:
        """The same as `user_vector` from dense raw features, see `RawFeatures.dense_signature`."""

        @tf.function(autograph=False)
        def from_dense(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            return self._user_vectors(unpad(inputs))

        return from_dense.get_concrete_function(**self._raw.dense_signature(f.Role.QUERY))

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string, EXAMPLES)])
    def item_vector(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Ids [B] and vectors [B, K * D] of serialized tf.Examples [B] that hold the item features."""
        raw = self._raw.parse(examples, f.Role.CANDIDATE)
        vectors = self._model.item_vectors(self._raw.encode(raw, self._model.candidate_features))
        return {f.ITEM_ID: raw[f.ITEM_ID], VECTORS: vectors}

    def score_vectors(self) -> tf.types.experimental.ConcreteFunction:
        """Probabilities [B, M] of each task, of users [B, K * D] and items [B, M, K * D]."""
        size = len(self._tasks) * self._model.config.output_dim

        @tf.function(autograph=False)
        def score(user_vectors: tf.Tensor, item_vectors: tf.Tensor) -> dict[str, tf.Tensor]:
            return self._name_probabilities(
                self._model.score_vectors(user_vectors[:, tf.newaxis], item_vectors)
            )

        return score.get_concrete_function(
            user_vectors=tf.TensorSpec([None, size], tf.float32, USER_VECTORS),
            item_vectors=tf.TensorSpec([None, None, size], tf.float32, ITEM_VECTORS),
        )


class ServedTeacher(_ServedScorer):
    """A teacher; `teach` is what a student's training asks."""

    def make_teach(self) -> tf.types.experimental.GenericFunction:
        """A function from what `data.flatten` gives to logits [N, K] and the hidden layer [N, H]."""
        spec = {x.name: make_dense_spec(x) for x in self._features}

        @tf.function(autograph=False, input_signature=[{**spec, REQUEST: tf.TensorSpec([None], tf.int32)}])
        def score(inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            return self._model(inputs)._asdict()

        return score


def export_student(student: TwoTowerStudent, transform_output: tft.TFTransformOutput, path: str) -> None:
    """Writes the SavedModel of a student, or of a control.

    Args:
      student: the trained model.
      transform_output: the Transform graph it was trained with.
      path: the directory to write.
    """
    features = (*student.query_features, *student.candidate_features)
    served = ServedStudent(student, features, student.config.tasks, transform_output)
    signatures = {
        SCORE_SIGNATURE: served.score_examples,
        USER_SIGNATURE: served.user_vector,
        USER_RAW_SIGNATURE: served.user_vector_raw(),
        ITEM_SIGNATURE: served.item_vector,
        SCORE_VECTORS_SIGNATURE: served.score_vectors(),
    }
    served.save(path, signatures)


def export_teacher(
    teacher: Teacher, until_ms: int, transform_output: tft.TFTransformOutput, path: str
) -> None:
    """Writes the SavedModel of a teacher, and what a student has to know of it.

    Args:
      teacher: the trained model.
      until_ms: it has learnt from rows before that time alone.
      transform_output: the Transform graph it was trained with.
      path: the directory to write.
    """
    served = ServedTeacher(teacher, teacher.features, teacher.config.tasks, transform_output)
    served.save(path, {SCORE_SIGNATURE: served.score_examples}, teach=served.make_teach())
    about = {
        "tasks": list(teacher.config.tasks),
        "features": [x.name for x in teacher.features],
        "until_ms": until_ms,
    }
    tf.io.gfile.makedirs(os.path.join(path, EXTRA_DIR))
    with tf.io.gfile.GFile(os.path.join(path, EXTRA_DIR, ABOUT_FILE), "w") as stream:
        json.dump(about, stream)


def load_teacher(path: str) -> FrozenTeacher:
    """A teacher as `export_teacher` wrote it; a later stage's ranker that is written so teaches as well.

    Args:
      path: its directory.

    Raises:
      TeacherError: if there is none.
    """
    about_path = os.path.join(path, EXTRA_DIR, ABOUT_FILE)
    if not tf.io.gfile.exists(about_path):
        raise TeacherError(f"{about_path}: missing; expected a teacher as the teacher's trainer exports it")
    with tf.io.gfile.GFile(about_path) as stream:
        about = json.load(stream)
    model = tf.saved_model.load(path)
    names = about["features"]

    def score(inputs: Mapping[str, tf.Tensor]) -> Scores:
        return Scores(**model.teach({name: inputs[name] for name in (*names, REQUEST)}))

    return FrozenTeacher(score, about["tasks"], set(names), about["until_ms"])

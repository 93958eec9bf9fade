"""The teachers of pre-ranking, which see more than their student (Xu et al. 2020, PFD)."""

from collections.abc import Sequence

import tensorflow as tf

from schemas import features as f
from trainers.layers.feature_embedding import EmbeddingTables, FeatureEmbedding
from trainers.layers.two_towers import QueryEncoder
from trainers.preprocessing import EncodedFeature
from trainers.prerank.config import TeacherConfig
from trainers.prerank.feature_choice import select_features
from trainers.prerank.model import TwoTowerStudent, history_shape
from trainers.scorers.data import REQUEST
from trainers.scorers.scores import Inputs, Scores, log_odds, make_tables


class WideDeepTeacher(tf.keras.Model):
    """Wide&Deep (Cheng et al. 2016, arXiv 1606.07792) under one sigmoid: z = wide + deep + b.

    Wide is a weight for each bucket of the hashed crosses. Deep is an MLP on the embeddings and numbers of
    both sides and of the privileged features. An MLP finds products and equality with difficulty, so it is
    given both: the product of one projection of each side, and how often the history holds the item's id,
    category, brand and so on (log(1 + n)). The conversion's logit sees what is known after the click besides;
    the click's never does.

    Args:
      features: see `select_features`.
      config: widths and rates.
      positive_rates: [K] share of positives of each task, where the bias starts.
    """

    def __init__(
        self, features: Sequence[EncodedFeature], config: TeacherConfig, positive_rates: Sequence[float]
    ):
        super().__init__(name="teacher")
        by_role = {role: [x for x in features if x.role is role] for role in f.Role}
        self.config = config
        self.features = tuple(features)
        self._crosses = by_role[f.Role.CROSS]
        self.tables = make_tables([x for x in features if x.role is not f.Role.CROSS], config.embedding_dim)
        self._query = QueryEncoder(
            by_role[f.Role.QUERY], self.tables, config, history_shape(config), name="query"
        )
        self._candidate = FeatureEmbedding(
            by_role[f.Role.CANDIDATE], self.tables, config.id_dropout, name="candidate"
        )
        self._project_query = tf.keras.layers.Dense(config.output_dim, name="project_query")
        self._project_candidate = tf.keras.layers.Dense(config.output_dim, name="project_candidate")
        histories = {x.table: x.name for x in by_role[f.Role.QUERY] if x.is_list}
        self._matches = [
            (x.name, histories[x.table])
            for x in by_role[f.Role.CANDIDATE]
            if x.table in histories and not x.is_list
        ]
        self._privileged = _embed(by_role[f.Role.PRIVILEGED], self.tables, "privileged")
        self._after = _embed(by_role[f.Role.PRIVILEGED_POST_EVENT], self.tables, "after")
        self._dropout = tf.keras.layers.Dropout(config.dropout)
        self._deep = [
            tf.keras.layers.Dense(dim, activation="relu", name=f"deep_{i}")
            for i, dim in enumerate(config.deep_dims)
        ]
        self._heads = [tf.keras.layers.Dense(1, use_bias=False, name=f"head_{task}") for task in config.tasks]
        self._wide = {
            x.name: self.add_weight(
                name=f"wide_{x.name}", shape=(x.size, len(config.tasks)), initializer="zeros"
            )
            for x in self._crosses
        }
        self._bias = self.add_weight(
            name="bias",
            shape=(len(config.tasks),),
            initializer=tf.constant_initializer(log_odds(positive_rates)),
        )

    def call(self, inputs: Inputs, training: bool = False) -> Scores:
        """Scores rows; see `data.flatten`."""
        query = self._query(inputs, training=training)
        candidate = self._candidate(inputs, training=training)
        request = inputs[REQUEST]
        product = tf.gather(self._project_query(query), request) * self._project_candidate(candidate)
        parts = [tf.gather(query, request), candidate, product]
        for item, history in self._matches:
            is_match = (tf.gather(inputs[history], request) == inputs[item][:, tf.newaxis]) & (
                inputs[item] > 0
            )[:, tf.newaxis]
            parts.append(tf.math.log1p(tf.reduce_sum(tf.cast(is_match, tf.float32), axis=1, keepdims=True)))
        if self._privileged:
            parts.append(self._privileged(inputs, training=training))
        hidden = tf.concat(parts, axis=1)
        for layer in self._deep:
            hidden = layer(self._dropout(hidden, training=training))
        logits = [self._heads[0](hidden)]
        for head in self._heads[1:]:
            after = [self._after(inputs, training=training)] if self._after else []
            logits.append(head(tf.concat([hidden, *after], axis=1)))
        wide = [tf.gather(self._wide[x.name], inputs[x.name]) for x in self._crosses]
        return Scores(tf.add_n([tf.concat(logits, axis=1), *wide]) + self._bias, hidden)


class PrivilegedTwoTowers(tf.keras.Model):
    """The student's own structure, with the privileged features beside the inner product (PFD without MD).

    z_k = z_k of two towers + MLP_k(privileged features); the conversion's MLP sees what is known after the
    click besides.

    Args:
      features: see `select_features`.
      config: widths and rates.
      positive_rates: [K] share of positives of each task, where the bias starts.
    """

    def __init__(
        self, features: Sequence[EncodedFeature], config: TeacherConfig, positive_rates: Sequence[float]
    ):
        super().__init__(name="teacher")
        self.config = config
        self.features = tuple(features)
        self._towers = TwoTowerStudent(features, config, positive_rates)
        privileged = [x for x in features if x.role is f.Role.PRIVILEGED]
        after = [x for x in features if x.role is f.Role.PRIVILEGED_POST_EVENT]
        tables = make_tables((*privileged, *after), config.embedding_dim)
        self._privileged = FeatureEmbedding(privileged, tables, 0.0, name="privileged")
        self._after = _embed(after, tables, "after")
        self._hidden = [
            tf.keras.layers.Dense(dim, activation="relu", name=f"privileged_{i}")
            for i, dim in enumerate(config.deep_dims)
        ]
        self._heads = [tf.keras.layers.Dense(1, use_bias=False, name=f"head_{task}") for task in config.tasks]

    @property
    def tables(self) -> EmbeddingTables:
        """The embeddings of both sides."""
        return self._towers.tables

    def call(self, inputs: Inputs, training: bool = False) -> Scores:
        """Scores rows; see `data.flatten`."""
        scores = self._towers(inputs, training=training)
        hidden = self._privileged(inputs, training=training)
        for layer in self._hidden:
            hidden = layer(hidden)
        after = [self._after(inputs, training=training)] if self._after else []
        more = [self._heads[0](hidden)]
        more += [head(tf.concat([hidden, *after], axis=1)) for head in self._heads[1:]]
        return Scores(scores.logits + tf.concat(more, axis=1), tf.concat([scores.hidden, hidden], axis=1))


Teacher = WideDeepTeacher | PrivilegedTwoTowers


def build_teacher(
    features: Sequence[EncodedFeature], config: TeacherConfig, positive_rates: Sequence[float]
) -> Teacher:
    """The teacher of the configured form, see `TeacherConfig`.

    Args:
      features: what the Transform graph made.
      config: form, widths and rates.
      positive_rates: [K] share of positives of each task.

    Raises:
      ValueError: see `select_features`.
    """
    kind = PrivilegedTwoTowers if config.form == "pfd" else WideDeepTeacher
    return kind(select_features(features, config), config, positive_rates)


def _embed(features: Sequence[EncodedFeature], tables: EmbeddingTables, name: str) -> FeatureEmbedding | None:
    """Privileged features are never dropped: a missing one has its own index."""
    return FeatureEmbedding(features, tables, 0.0, name=name) if features else None

"""Winnow's two towers under the protocols, by the pipeline's own trainer."""

import dataclasses

import numpy as np
import tensorflow as tf

from benchmarks.movielens.data import HeldOutData
from benchmarks.movielens.protocols import Split
from benchmarks.movielens.rows import RowMaker, find_earlier, find_newest, find_others, fit_row_maker
from benchmarks.movielens.settings import Settings
from trainers.retrieval.model import RetrievalModel
from trainers.retrieval.train import train_towers


class TowerScorer:
    """Inner products of both towers' vectors.

    Args:
      model: trained.
      rows: the encoding it was trained with.
      split: whose training ratings are the histories.
      settings: the model's.
    """

    def __init__(self, model: RetrievalModel, rows: RowMaker, split: Split, settings: Settings):
        self._rows = rows
        self._past = split.train
        num_users = len(next(iter(rows.users.values())))
        self._places = find_newest(split.train, num_users, settings.query_history_size)
        self._query_tower = tf.function(model.query_tower, reduce_retracing=True)
        features = {x.name: tf.constant(rows.items[x.name]) for x in model.candidate_features}
        self._items = model.candidate_tower(features).numpy()
        self._inputs = [x.name for x in model.query_features]

    def score(self, users: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        """See `data.Scorer`."""
        query = self._rows.make_queries(users, seconds, self._past, self._places[users])
        vectors = self._query_tower({name: tf.constant(query[name]) for name in self._inputs})
        return vectors.numpy() @ self._items.T


def train_winnow(
    data: HeldOutData, split: Split, settings: Settings, seed: int, *, with_time: bool
) -> TowerScorer:
    """Trains on a split's training ratings, for as many epochs as the settings say.

    Args:
      data: the data set under its protocol.
      split: one of the data's.
      settings: see `Settings`.
      seed: of everything random.
      with_time: see `fit_row_maker`.
    """
    past = split.train
    rows = fit_row_maker(data.movielens, past, with_time=with_time)
    if data.protocol.is_causal:
        places = find_earlier(past, settings.history_size)
    else:
        places = find_others(past, settings.history_size, seed)
    config = dataclasses.replace(settings.towers, seed=seed)
    result = train_towers(config, rows.features, rows.make_rows(past, past, places), None)
    return TowerScorer(result.model, rows, split, settings)

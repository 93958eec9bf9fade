"""The models that are compared, and how each is built from the same data.

TensorFlow and all that needs it are imported by the functions that build: a study whose results are all
there reads this list and nothing else.
"""

import dataclasses
import itertools
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.retrieval.data import BenchmarkData
    from components.retrieval_evaluator.rankers import Ranker
    from trainers.retrieval.config import RetrievalConfig

WINNOW = "winnow"
SELECTION_METRIC = "recall_100"
EASE_L2 = (50.0, 100.0, 250.0, 500.0, 1000.0, 2000.0, 5000.0)
KNN_NEIGHBOURS = (50, 100, 200, 500, 1000, 2000)
KNN_SHRINKAGE = (0.0, 5.0, 20.0, 100.0, 300.0)

# From a study's data and a seed: what its data measures, and what was chosen without the test split.
Build = Callable[[Any, int], tuple[Any, dict[str, Any]]]


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """One row of the table.

    Attributes:
      name: what the row is called.
      build: makes the ranker.
      modules: whose code, beside this module's, makes the result; see `pipelines.code_fingerprint`.
      settings: what else the result depends on; JSON values.
      is_seeded: whether another seed gives another model.
      note: what a reader must know to read the row.
    """

    name: str
    build: Build
    modules: tuple[str, ...]
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    is_seeded: bool = False
    note: str = ""


def list_models(config: "RetrievalConfig", depth: int, *, has_oracle: bool) -> list[ModelSpec]:
    """The table's rows, Winnow's first.

    Args:
      config: Winnow's configuration; the study replaces its seed.
      depth: items that its package returns.
      has_oracle: whether the log is a simulated one with its ground truth beside it.
    """
    fitted = ("benchmarks.retrieval.selection",)
    knn_grid = {"neighbours": list(KNN_NEIGHBOURS), "shrinkage": list(KNN_SHRINKAGE)}
    ease_grid = {"l2": list(EASE_L2)}
    winnow_settings = {**dataclasses.asdict(config), "depth": depth}
    winnow_settings.pop("seed")
    models = [
        ModelSpec(
            WINNOW,
            lambda data, seed: _build_winnow(data, dataclasses.replace(config, seed=seed), depth),
            ("benchmarks.retrieval.winnow_model",),
            winnow_settings,
            is_seeded=True,
        ),
        ModelSpec("popularity", _build_popularity, ()),
        ModelSpec("random", _build_random, (), note="expected value, in closed form"),
        ModelSpec("item-kNN", _build_knn, fitted, knn_grid),
        ModelSpec("EASE", _build_ease, fitted, ease_grid),
        ModelSpec(
            "EASE, whole history",
            _build_ease_whole,
            fitted,
            ease_grid,
            note="has more input: all earlier clicks, where the others are given the last 50",
        ),
        ModelSpec(
            "TFRS tutorial",
            _build_tutorial,
            ("benchmarks.retrieval.tutorial", "benchmarks.retrieval.score_rankers"),
            is_seeded=True,
            note="user id and item id alone, as the tutorial builds it",
        ),
    ]
    if has_oracle:
        modules = ("benchmarks.retrieval.oracle_ranker",)
        models += [
            ModelSpec("oracle", _build_oracle, modules, note="the truth that simulated the log: the ceiling"),
            ModelSpec(
                "oracle relevance",
                _build_relevance,
                modules,
                note="the truth about the user's interest, without what the logging policy shows",
            ),
        ]
    return models


def _build_winnow(
    data: "BenchmarkData", config: "RetrievalConfig", depth: int
) -> tuple["Ranker", dict[str, Any]]:
    from benchmarks.retrieval.winnow_model import train_package
    from components.index_builder.package import load_package
    from components.retrieval_evaluator.rankers import PackageRanker

    with tempfile.TemporaryDirectory() as folder:
        path, training = train_package(data.prepared, config, depth, folder)
        return PackageRanker(load_package(path)), training


def _build_popularity(data: "BenchmarkData", _: int) -> tuple["Ranker", dict[str, Any]]:
    from components.retrieval_evaluator.rankers import PopularityRanker

    return PopularityRanker(data.item_clicks), {}


def _build_random(_: "BenchmarkData", __: int) -> tuple["Ranker", dict[str, Any]]:
    from components.retrieval_evaluator.rankers import RandomRanker

    return RandomRanker(), {}


def _build_knn(data: "BenchmarkData", _: int) -> tuple["Ranker", dict[str, Any]]:
    from benchmarks.retrieval.item_models import ItemKnn
    from benchmarks.retrieval.selection import choose_item_model

    grid = itertools.product(KNN_NEIGHBOURS, KNN_SHRINKAGE)
    return choose_item_model([ItemKnn(*point) for point in grid], data, SELECTION_METRIC)


def _build_ease(data: "BenchmarkData", _: int) -> tuple["Ranker", dict[str, Any]]:
    from benchmarks.retrieval.item_models import Ease
    from benchmarks.retrieval.selection import choose_item_model

    return choose_item_model([Ease(l2) for l2 in EASE_L2], data, SELECTION_METRIC)


def _build_ease_whole(data: "BenchmarkData", _: int) -> tuple["Ranker", dict[str, Any]]:
    from benchmarks.retrieval.item_models import Ease
    from benchmarks.retrieval.selection import choose_item_model

    return choose_item_model([Ease(l2) for l2 in EASE_L2], data, SELECTION_METRIC, whole_history=True)


def _build_tutorial(data: "BenchmarkData", seed: int) -> tuple["Ranker", dict[str, Any]]:
    from benchmarks.retrieval.score_rankers import FunctionRanker
    from benchmarks.retrieval.tutorial import train_tutorial_model

    clicks = data.train_clicks
    model = train_tutorial_model(clicks.users, clicks.items, data.catalogue.ids, seed)
    return FunctionRanker(model.score, data.popularity_ranks), {}


def _build_oracle(data: "BenchmarkData", _: int) -> tuple["Ranker", dict[str, Any]]:
    from benchmarks.retrieval.oracle_ranker import OracleRanker

    return OracleRanker(data.prepared.events_dir, data.popularity_ranks, with_exposure=True), {}


def _build_relevance(data: "BenchmarkData", _: int) -> tuple["Ranker", dict[str, Any]]:
    from benchmarks.retrieval.oracle_ranker import OracleRanker

    return OracleRanker(data.prepared.events_dir, data.popularity_ranks, with_exposure=False), {}

"""The rows of the tables. What needs TensorFlow is imported by the functions that build."""

import dataclasses
from typing import TYPE_CHECKING, Any

from benchmarks.movielens.protocols import LAST_OUT, RANDOM_SPLIT, Protocol
from benchmarks.movielens.settings import Settings
from benchmarks.retrieval.models import EASE_L2, WINNOW, ModelSpec
from trainers.retrieval.config import RetrievalConfig

if TYPE_CHECKING:
    from benchmarks.movielens.data import HeldOutData, Scorer

_TIMESTAMP = "_timestamp"
_LEAKS = "LEAKS: is given the test row's own timestamp, in a split whose training rows are of the same time."


SETTINGS = {
    RANDOM_SPLIT.name: Settings(
        RetrievalConfig(
            disabled_groups=("user_id",),  # the history says more of a user, and is not learnt by heart
            mask_clicked=False,  # nobody rates a title twice
            num_history_heads=1,  # a history without an order
            event_dropout=0.0,  # it is a sample as it is
            embedding_dim=128,
            output_dim=128,
            spectral_start=0.15,
            dropout=0.5,
            num_uniform_negatives=2048,
            batch_size=1024,
            learning_rate=6e-3,
            max_epochs=8,
        ),
        history_size=128,
        query_history_size=1000,
    ),
    LAST_OUT.name: Settings(
        RetrievalConfig(batch_size=512, max_epochs=6), history_size=50, query_history_size=50
    ),
}


def list_models(protocol: Protocol) -> list[ModelSpec]:
    """The rows of a protocol's table, Winnow's first."""
    ease = ModelSpec("ease", _build_ease, ("benchmarks.movielens.baselines",), {"l2": list(EASE_L2)})
    popularity = ModelSpec("popularity", _build_popularity, ("benchmarks.movielens.baselines",))
    winnow = _make_winnow(protocol, with_time=False)
    if protocol is LAST_OUT:
        return [winnow, ease, popularity]
    module = ("benchmarks.movielens.tutorials",)
    return [
        winnow,
        ease,
        popularity,
        ModelSpec(
            "tutorial", _build_tutorial, module, is_seeded=True, note="The basic retrieval tutorial's."
        ),
        _make_winnow(protocol, with_time=True),
        ModelSpec(
            "tutorial" + _TIMESTAMP,
            _build_context_tutorial,
            module,
            is_seeded=True,
            note=f"The context features tutorial's. {_LEAKS}",
        ),
    ]


def is_leaking(model: ModelSpec) -> bool:
    """Whether a row of the table knows what it could not."""
    return model.name.endswith(_TIMESTAMP)


def _make_winnow(protocol: Protocol, *, with_time: bool) -> ModelSpec:
    settings = SETTINGS[protocol.name]

    def build(data: "HeldOutData", seed: int) -> tuple["Scorer", dict[str, Any]]:
        from benchmarks.movielens.winnow_model import train_winnow

        return train_winnow(data, data.test, settings, seed, with_time=with_time), {}

    described = dataclasses.asdict(settings)
    described["towers"].pop("seed")
    return ModelSpec(
        WINNOW + _TIMESTAMP * with_time,
        build,
        ("benchmarks.movielens.winnow_model",),
        described,
        is_seeded=True,
        note=_LEAKS if with_time else "",
    )


def _build_ease(data: "HeldOutData", _: int) -> tuple["Scorer", dict[str, Any]]:
    from benchmarks.movielens.baselines import build_ease

    return build_ease(data, EASE_L2)


def _build_popularity(data: "HeldOutData", _: int) -> tuple["Scorer", dict[str, Any]]:
    from benchmarks.movielens.baselines import build_popularity

    return build_popularity(data), {}


def _build_tutorial(data: "HeldOutData", seed: int) -> tuple["Scorer", dict[str, Any]]:
    from benchmarks.movielens.tutorials import build_tutorial

    return build_tutorial(data, seed), {}


def _build_context_tutorial(data: "HeldOutData", seed: int) -> tuple["Scorer", dict[str, Any]]:
    from benchmarks.movielens.tutorials import build_context_tutorial

    return build_context_tutorial(data, seed), {}

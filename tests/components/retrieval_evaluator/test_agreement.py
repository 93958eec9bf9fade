import numpy as np
import pytest

from components.index_builder.package import load_package
from components.retrieval_evaluator.agreement import measure_agreement


def test_an_index_of_another_model_agrees_by_chance_alone(world):
    """As one that was built from the towers of an earlier run would."""
    rng = np.random.default_rng(0)
    vectors, depth = rng.normal(size=(world.num_items, world.width)), 8
    test = [{"item": item, "timestamp": 5, "history": [item]} for item in (*world.item_ids, "gone")]
    queries = world.make_queries((), test)
    shuffled = rng.permutation(vectors)
    own = load_package(world.save_package(vectors, np.zeros((1, world.width)), depth, "own"))
    stale = load_package(world.save_package(shuffled, np.zeros((1, world.width)), depth, "stale"))

    assert measure_agreement(own, own, queries) == {"depth": depth, "recall": 1.0, "similar_recall": 1.0}
    agreement = measure_agreement(own, stale, queries)

    def best(items, item, k):
        return set(np.argsort(-(items @ items[item]), kind="stable")[:k])

    shares = [len(best(vectors, i, depth) & best(shuffled, i, depth)) / depth for i in range(world.num_items)]
    # The unknown item's query is the zero vector: both answer with the first items.
    assert agreement["recall"] == pytest.approx(np.mean([*shares, 1.0]))
    assert agreement["similar_recall"] < 0.5

from components.retrieval_evaluator.pairs import PairSet


def test_pairs_are_told_by_the_newest_event_of_the_history(world):
    """A session of 2 s; a row is one case."""
    test = [
        {"item": "i01", "history": ["i08", "i09"], "known_at": [1, 9_000]},
        {"item": "i02", "history": ["i09"], "known_at": [8_001]},
        {"item": "i03", "history": ["i09"], "known_at": [8_000]},  # 2 s are not less than 2 s
        {"item": "i04", "history": ["i09", "i08"], "known_at": [9_000, 1]},
        {"item": "i05"},
        {"item": "i06", "history": ["i06"], "known_at": [9_000]},  # an item is no answer to itself
        {"item": "i07", "history": ["gone"], "known_at": [9_000]},
    ]
    train = [{"item": "i20", "timestamp": 1}]
    queries = world.make_queries(train, [{"timestamp": 10_000, **row} for row in test])
    (batch,) = PairSet(queries, 2)
    assert batch.targets.tolist() == [b"i01", b"i02", b"i07"]
    assert batch.anchors.tolist() == [b"i09", b"i09", b"gone"]
    assert [rows.tolist() for rows in batch.excluded] == [[20, 9], [20, 9], [20]]
    assert list(PairSet(queries, 1)) == []

"""What ranking asks of a request besides: a history in order, and no more pairs than memory is kept for."""

import grpc
import numpy as np
import pytest
import tensorflow as tf

from components.funnel_builder.catalogue import CANDIDATES
from components.funnel_builder.rank_package import MAX_CANDIDATES, MAX_PAIRS
from schemas import features as f

pytestmark = pytest.mark.slow

MODELS = ("retrieval_brute_force", "retrieval_scann")
HOUR_MS = 3_600_000
NOW_MS = 1_706_000_000_000


@pytest.fixture(scope="module")
def client(pushed_server, connect):
    return connect(pushed_server)


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return request.param


@pytest.fixture(scope="module")
def make_row(client, pushed):
    """(clicks' hours before the request, which of the items) -> a row of a JSON request."""
    inputs = client.signatures(MODELS[0])[0]["rank"].inputs
    lists = [name for name, info in inputs.items() if len(info.tensor_shape.dim) == 2]
    items = [x.decode() for x in pushed.item_ids]

    def make_row(hours, first=0):
        places = [first + n for n in range(len(hours))]
        return {
            **{name: [] for name in lists},
            f.USER_ID: "u000003",
            f.TIMESTAMP: NOW_MS,
            f.HISTORY_ITEM_ID: [items[place % len(items)] for place in places],
            "history_category": [f"c{place % 7:02d}" for place in places],
            "history_brand": [""] * len(hours),
            "history_shop_id": [f"s{place % 60:05d}" for place in places],
            f.HISTORY_TIMESTAMP: [NOW_MS - hour * HOUR_MS for hour in hours],
            CANDIDATES: items[:40],
        }

    return make_row


def fill(rows):
    """Lists as long as the longest, filled up as docs/serving.md says."""
    longest = {
        name: max(len(row[name]) for row in rows) for name, x in rows[0].items() if isinstance(x, list)
    }

    def fill_list(name, values):
        filling = tf.int64.min if name == f.HISTORY_TIMESTAMP else ""
        return [*values, *[filling] * (longest[name] - len(values))]

    return [{name: fill_list(name, x) if name in longest else x for name, x in row.items()} for row in rows]


def to_columns(rows):
    return {name: [row[name] for row in fill(rows)] for name in rows[0]}


@pytest.fixture(scope="module")
def rank(client, model):
    """Rows -> status and answers, by REST."""

    def rank(rows):
        body = {"signature_name": "rank", "instances": fill(rows)}
        status, answer, _ = client.rest(f"{model}:predict", body)
        return status, answer

    return rank


REFUSED = "history_timestamp: expected the oldest event first, got another order in rows"


@pytest.mark.parametrize(
    ("histories", "place"),
    [([[1, 2]], 0), ([[9, 5, 7, 1]], 0), ([[5, 3], [], [2, 4, 1]], 2)],
    ids=["newest first", "one is out of place", "of one row among others"],
)
def test_a_history_out_of_order_is_refused_by_rest(client, model, rank, make_row, histories, place):
    rows = [make_row(hours) for hours in histories]
    wanted = f"signature 'rank': assertion failed: [{REFUSED}] [{place}]"
    status, answer = rank(rows)
    assert status == 400 and wanted in answer["error"]
    body = {"signature_name": "rank", "inputs": to_columns(rows)}
    status, answer, _ = client.rest(f"{model}:predict", body)
    assert status == 400 and wanted in answer["error"]


def test_so_is_it_by_grpc(client, model, make_row):
    columns = to_columns([make_row([1, 2])])
    specs = client.signatures(model)[0]["rank"].inputs
    protos = {}
    for name, info in specs.items():
        dtype = tf.as_dtype(info.dtype)
        values = np.array(columns[name], object if dtype == tf.string else dtype.as_numpy_dtype)
        protos[name] = tf.make_tensor_proto(values, dtype, values.shape)
    with pytest.raises(grpc.RpcError, match="oldest event first") as caught:
        client.predict(protos, "rank", model)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def make_example(row):
    """The query of a row as a serialized tf.Example."""
    example = tf.train.Example()
    for name, value in row.items():
        for x in value if isinstance(value, list) else [value]:
            feature = example.features.feature[name]
            if isinstance(x, str):
                feature.bytes_list.value.append(x.encode())
            else:
                feature.int64_list.value.append(x)
    return example.SerializeToString()


@pytest.mark.parametrize("signature", ["rank_examples", "rank_score_examples"])
def test_so_it_is_in_an_example(client, pushed, model, make_row, signature):
    """And the pair scorer would not say otherwise than the ranking."""
    query = {name: x for name, x in make_row([1, 2]).items() if name != CANDIDATES}
    item = tf.train.Example.FromString(pushed.items[0])
    pair = tf.train.Example.FromString(make_example(query))
    pair.features.MergeFrom(item.features)
    inputs = {"examples": np.array([pair.SerializeToString()], object)}
    if signature == "rank_examples":
        inputs[CANDIDATES] = np.array([pushed.item_ids[:3]], object)
    protos = {name: tf.make_tensor_proto(x, tf.string, x.shape) for name, x in inputs.items()}
    with pytest.raises(grpc.RpcError, match="oldest event first") as caught:
        client.predict(protos, signature, model)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_clicks_of_one_time_are_in_order(rank, make_row):
    status, answer = rank([make_row([7, 7, 2, 2])])
    assert status == 200 and len(answer["predictions"][0]["item_id"]) == 30


def test_each_row_is_ranked_by_its_own_history(rank, make_row):
    """Of lists of unlike length, filled up, as each alone."""
    rows = [make_row([9, 5, 2]), make_row([]), make_row(range(60, 0, -1), first=20)]
    _, together = rank(rows)
    alone = [rank([row])[1]["predictions"][0] for row in rows]
    for row, expected in zip(together["predictions"], alone, strict=True):
        np.testing.assert_allclose(row["clicked"], expected["clicked"], rtol=0, atol=1e-5)
    first, empty, long = (row["clicked"] for row in alone)
    assert np.abs(np.subtract(first, empty)).max() > 1e-3 and np.abs(np.subtract(first, long)).max() > 1e-3


def test_of_a_long_history_the_newest_events_count(rank, make_row):
    _, whole = rank([make_row(range(130, 0, -1))])
    _, newest = rank([make_row(range(f.HISTORY_SIZE, 0, -1), first=130 - f.HISTORY_SIZE)])
    assert whole == newest


def test_pairs_beyond_what_memory_is_kept_for_are_refused(rank, make_row):
    rows = [{**make_row([2, 1]), CANDIDATES: ["i000001"] * MAX_CANDIDATES}] * (
        MAX_PAIRS // MAX_CANDIDATES + 1
    )
    status, answer = rank(rows)
    assert status == 400 and f"{MAX_CANDIDATES} at most a row and {MAX_PAIRS} in all" in answer["error"]
    status, answer = rank(rows[1:])
    assert status == 200 and len(answer["predictions"]) == MAX_PAIRS // MAX_CANDIDATES

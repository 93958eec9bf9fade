"""DIEN's training speed: the same for everyone, the sums by hand, a small run."""

import json
import os
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.dien_speed import bucketing, models, peers
from benchmarks.dien_speed.data import Sizes, make_columns, save
from benchmarks.dien_speed.peer_processes import PeerError, PeerProcess
from benchmarks.dien_speed.report import print_report
from benchmarks.dien_speed.study import Timings
from benchmarks.dien_speed.summary import find_like, summarize
from pipelines import cli
from trainers.layers.feature_embedding import PADDING
from trainers.ranking.features import NEGATIVE_PREFIX
from trainers.scorers.data import QUERY, REQUEST, ROWS, flatten

SIZES = Sizes(rows=12, steps=2)
OURS = (*models.FORMS, *(name + models.SHARED for name in (models.DIN, models.DIEN, models.DIEN_AUX)))


@pytest.fixture
def make_interpreter(tmp_path):
    """What passes for an environment's interpreter: this one, with another script in the peers' place."""

    def make(script):
        code = tmp_path / "script.py"
        code.write_text(f"import json, sys\nname, path, threads = sys.argv[-3:]\n{script}")
        python = tmp_path / "python"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{code}" "$@"\n')
        python.chmod(python.stat().st_mode | stat.S_IEXEC)
        return python

    return make


def test_peers_are_given_our_sizes_and_ids(tmp_path):
    columns = make_columns(SIZES)
    save(SIZES, columns, tmp_path / "data.npz")
    sizes, loaded = peers.load(str(tmp_path / "data.npz"))
    config = models.make_config(SIZES, models.FORMS[models.DIEN_AUX])
    for name in ("embedding_dim", "units", "attention_dims", "head_dims"):
        value = sizes[name]
        assert (tuple(value) if isinstance(value, list) else value) == getattr(config, name)
    assert {x.name: x.size for x in models.make_features(SIZES)} == {
        models.USER: sizes["users"],
        models.ITEM: sizes["items"],
        models.CATEGORY: sizes["categories"],
        models.HISTORY_ITEM: sizes["items"],
        models.HISTORY_CATEGORY: sizes["categories"],
    }
    for number in range(SIZES.steps):
        ours = flatten(models.make_batch(columns, number))
        for name, theirs in {
            models.USER: "user",
            models.ITEM: "item",
            models.CATEGORY: "category",
            models.HISTORY_ITEM: "history_item",
            models.HISTORY_CATEGORY: "history_category",
            "clicked": "clicked",
        }.items():
            np.testing.assert_array_equal(ours[name], loaded[theirs][number])
        negatives = ours[NEGATIVE_PREFIX + models.HISTORY_ITEM][:, :, 0]
        np.testing.assert_array_equal(negatives, loaded["negative_item"][number])
        np.testing.assert_array_equal(ours[REQUEST], np.arange(SIZES.rows))
    # A peer that looks categories up finds those of the columns; nothing is padding, which 0 is to peers.
    for name in ("", "history_", "negative_"):
        of_items = loaded["item_categories"][loaded[f"{name}item"]]
        np.testing.assert_array_equal(of_items, loaded[f"{name}category"])
        assert loaded[f"{name}item"].min() > 0 and of_items.min() > 0


def test_rows_of_a_request_share_the_history_of_the_first():
    columns = make_columns(SIZES)
    batch = models.make_batch(columns, 1, 5)
    assert batch[QUERY][models.HISTORY_ITEM].shape == (2, SIZES.history)
    np.testing.assert_array_equal(batch[QUERY][models.HISTORY_ITEM], columns["history_item"][1, [0, 5]])
    np.testing.assert_array_equal(batch[ROWS][models.ITEM], columns["item"][1, :10].reshape(2, 5))


def test_bucketed_batches_hold_the_padded_ones_histories_and_less_padding():
    sizes = Sizes(rows=10)
    step = models.TrainingStep(sizes, models.FORMS[models.DIN], models.make_batch(make_columns(sizes), 0))
    epochs = bucketing.make_epochs(sizes, step)

    def list_histories(batches):
        rows = [row for batch in batches for row in batch[QUERY][models.HISTORY_ITEM].numpy().tolist()]
        return sorted([item for item in row if item != PADDING] for row in rows)

    lengths = bucketing.make_lengths(sizes)
    assert lengths.min() >= 1 and lengths.max() == sizes.history
    histories = list_histories(epochs["padded"])
    assert list_histories(epochs["bucketed"]) == histories
    assert sorted(map(len, histories)) == sorted(lengths)
    widths = {
        name: sum(batch[QUERY][models.HISTORY_ITEM].shape[1] for batch in batches)
        for name, batches in epochs.items()
    }
    assert widths["padded"] == bucketing.NUM_BATCHES * sizes.history
    assert widths["bucketed"] < widths["padded"] / 2


@pytest.fixture
def timings():
    """Seconds of a step of three rounds, of which the second was slow for all."""
    slow = np.array([1.0, 10.0, 1.0])
    seconds = {name: 0.5 * slow for name in OURS}
    seconds[models.DIN] = 0.2 * slow
    seconds[models.DIEN + models.BILINEAR] = 0.25 * slow
    seconds[models.DIEN + models.SHARED] = 0.1 * slow
    seconds["fuxictr dien"] = 1.0 * slow
    seconds["torch-rechub dien"] = 0.75 * slow
    seconds["deepctr-torch dien+aux"] = 2.0 * slow
    seconds["deepctr din"] = 0.1 * slow
    seconds["padded"] = 0.5 * slow
    seconds["bucketed"] = np.array([0.25, 2.5, 0.125])
    processor_seconds = {name: 2.0 * values for name, values in seconds.items()}
    processor_seconds[models.DIEN] = 0.25 * slow
    return Timings(
        seconds={name: list(values) for name, values in seconds.items()},
        processor_seconds={name: list(values) for name, values in processor_seconds.items()},
        skipped={"recbole dien+aux": "no --peer-python has recbole"},
    )


def test_the_summary_by_hand(timings, capsys):
    sizes = Sizes(rows=104)
    summary = json.loads(json.dumps(summarize(timings, sizes, "a machine")))
    rates = summary["rows_per_second"]
    assert rates["winnow dien"] == pytest.approx({"p25": 104 * (2.0 + 0.2) / 2, "p50": 208.0, "p75": 208.0})
    assert rates[models.DIEN_AUX + models.SHARED]["p50"] == pytest.approx(200.0)  # 4 rows fill no request
    assert summary["dien_aux_over_din_time"] == pytest.approx(2.5)
    # The control is no DIEN, torch-rechub's the faster one of the others
    assert summary["over_fastest_peer"] == pytest.approx(1.5)
    assert summary["aux_over_fastest_peer"] == pytest.approx(4.0)
    assert summary["bilinear"] == pytest.approx(
        {"dien_aux_over_din_time": 1.0, "over_fastest_peer": 3.0, "aux_over_fastest_peer": 4.0}
    )
    assert summary["shared"]["over_fastest_peer"] == pytest.approx(7.5 * 100 / 104)
    assert summary["over_peers"] == pytest.approx(
        {"fuxictr dien": 2.0, "torch-rechub dien": 3.0, "deepctr-torch dien+aux": 4.0}
    )
    assert summary["bucketing"]["ratio"] == pytest.approx(2.0)
    assert summary["bucketing"]["padded"]["p50"] == pytest.approx(208.0)
    assert summary["processor"]["rows_per_second"]["winnow dien"]["p50"] == pytest.approx(416.0)
    assert summary["processor"]["over_fastest_peer"] == pytest.approx(6.0)
    assert summary["machine"] == "a machine" and summary["rounds"] == 3

    print_report(summary)
    printed = capsys.readouterr().out
    (line,) = (line for line in printed.splitlines() if "dien over fastest" in line)
    assert line.split()[3:] == ["≥", "3", "1.50", "6.00", "3.00", "3.00", "7.21", "7.21"]
    assert "recbole dien+aux: not measured, no --peer-python has recbole" in printed
    lines = [line for line in printed.splitlines() if "pip install" not in line]
    assert max(map(len, lines)) <= 80 and "…" not in printed


def test_without_peers_there_is_no_ratio(timings):
    for name in peers.PEERS:
        timings.drop(name, "stopped")
    summary = summarize(timings, SIZES, "")
    assert summary["over_fastest_peer"] is None and summary["aux_over_fastest_peer"] is None
    assert summary["over_peers"] == {} and set(summary["skipped"]) == set(peers.PEERS)


@pytest.mark.parametrize("name", peers.PEERS)
def test_each_dien_is_compared_with_one_like_it(name):
    form = models.FORMS[find_like(name)]
    assert form.interest == "augru"
    assert (form.attention, form.auxiliary) == (peers.PEERS[name].attention, peers.PEERS[name].auxiliary)


def test_a_peer_is_asked_for_rounds(make_interpreter, tmp_path):
    python = make_interpreter(
        'print(json.dumps({"versions": {"given": " ".join((name, path, threads))}}), flush=True)\n'
        "for number, _ in enumerate(sys.stdin):\n"
        '    print(json.dumps({"seconds": number, "processor_seconds": 2 * number}), flush=True)'
    )
    data = tmp_path / "data.npz"
    with PeerProcess("fuxictr dien", [python], data) as peer:
        assert peer.versions == {"given": f"fuxictr dien {data} {len(os.sched_getaffinity(0))}"}
        assert [peer.time_round()["seconds"] for _ in range(3)] == [0, 1, 2]


def test_a_peer_that_is_nowhere_is_named_by_its_package(tmp_path):
    """The real script, in this environment: it has none of the peers."""
    with pytest.raises(PeerError, match="no --peer-python has torch-rechub"):
        PeerProcess("torch-rechub dien", [], tmp_path)
    with pytest.raises(PeerError, match="no --peer-python has recbole"):
        PeerProcess("recbole dien+aux", [Path(sys.executable)], tmp_path)


@pytest.mark.parametrize("before", [True, False])
def test_a_peer_that_stops_says_what_it_said_last(make_interpreter, tmp_path, before):
    built = "" if before else 'print(json.dumps({"versions": {}}), flush=True)\n'
    python = make_interpreter(f"{built}sys.exit('Traceback\\nof no use\\nno such operator')")
    with (
        pytest.raises(PeerError, match="it stopped: no such operator"),
        PeerProcess("fuxictr dien", [python], tmp_path) as peer,
    ):
        peer.time_round()


@pytest.mark.parametrize("path", ["nowhere/python", "."])
def test_an_interpreter_that_is_none_is_refused(path):
    result = CliRunner().invoke(
        cli.app, ["bench", "dien-speed", "--peer-python", path], env={"COLUMNS": "300"}
    )
    assert result.exit_code == 2
    assert "--peer-python" in result.output and "ENV/bin/python" in result.output


def test_a_small_run(make_interpreter):
    python = make_interpreter(
        "if name != 'fuxictr dien':\n"
        '    print(json.dumps({"missing": name}))\n'
        "    sys.exit()\n"
        'print(json.dumps({"versions": {"fuxictr": "1"}}), flush=True)\n'
        "for _ in sys.stdin:\n"
        '    print(json.dumps({"seconds": 1.0, "processor_seconds": 1.0}), flush=True)'
    )
    arguments = ["bench", "dien-speed", "--rows", "10", "--rounds", "1", "--json"]
    result = CliRunner().invoke(cli.app, [*arguments, "--peer-python", str(python)])
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout.splitlines()[-1], parse_constant=pytest.fail)
    assert set(summary["rows_per_second"]) == {*OURS, "fuxictr dien"}
    for rates in (*summary["rows_per_second"].values(), summary["bucketing"]["bucketed"]):
        assert 0 < rates["p25"] <= rates["p50"] <= rates["p75"]
    assert summary["dien_aux_over_din_time"] > 0 and summary["bucketing"]["ratio"] > 0
    expected = summary["rows_per_second"]["winnow dien"]["p50"] / 10.0
    assert summary["over_fastest_peer"] == pytest.approx(expected)
    assert set(summary["skipped"]) == set(peers.PEERS) - {"fuxictr dien"}
    assert summary["sizes"]["rows"] == 10 and "cores" in summary["machine"]
    assert "round 1 of 1" in result.stderr and "round 1 of 1" not in result.stdout

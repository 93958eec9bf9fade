"""`winnow bench dien-serving`: both exports say the same, and what is measured is what is told."""

import json

import matplotlib.image
import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.dien_serving import measure
from benchmarks.dien_serving.models import FEATURES, RequestShape, export, make_inputs
from pipelines import cli
from trainers.ranking.config import RankerConfig
from trainers.scorers.data import REQUEST

CONFIG = RankerConfig(embedding_dim=4, units=3, attention_dims=(4,), head_dims=(5,), product_dim=2)
SHAPE = RequestShape(candidates=7, history=5)


def test_requests_are_of_one_user_and_differ_by_the_seed():
    first, again, other = (make_inputs(SHAPE, seed) for seed in (1, 1, 2))
    assert first.keys() == {x.name for x in FEATURES} | {REQUEST}
    assert first["history_item_id_index"].shape == (1, 5) and first["item_id_index"].shape == (7,)
    assert not first[REQUEST].numpy().any()
    for name, values in first.items():
        np.testing.assert_array_equal(values, again[name])
    assert (first["item_id_index"].numpy() != other["item_id_index"].numpy()).any()


def test_every_export_scores_alike(tmp_path):
    inputs = make_inputs(SHAPE, seed=3)
    scores = [
        export(CONFIG, SHAPE, tmp_path, **how)(inputs).numpy()
        for how in (
            {"tiled": False, "xla": False},
            {"tiled": False, "xla": True},
            {"tiled": True, "xla": False},
            {"tiled": True, "xla": True},
        )
    ]
    assert scores[0].shape == (7, 1) and np.ptp(scores[0]) > 1e-4
    for other in scores[1:]:
        np.testing.assert_allclose(other, scores[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("medians", "r_squared"), [([1.0, 2.0, 3.0], 1.0), ([2.0, 1.0, 2.0], 0.0), ([1.0, 1.0, 4.0], 0.75)]
)
def test_how_well_a_line_fits(medians, r_squared):
    points = [{"size": size, "p50_ms": median} for size, median in zip((10, 20, 30), medians, strict=True)]
    assert measure._fit_line(points) == pytest.approx(r_squared)


def test_the_command_measures_prints_and_draws(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "LENGTHS", (2, 3))
    monkeypatch.setattr(measure, "CANDIDATES", (4, 5))
    picture = tmp_path / "growth.png"
    sizes = ("--candidates", "6", "--history", "4", "--units", "3", "--rounds", "3")
    done = CliRunner().invoke(
        cli.app, ["bench", "dien-serving", *sizes, "--json", "--plot", str(picture)], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    *lines, last = done.stdout.strip().splitlines()
    result = json.loads(last)
    exports = ("one encoding", "one encoding, XLA", "tiled history", "tiled history, XLA")
    assert tuple(result["exports"]) == exports
    assert 0 < result["p50_ms"] <= result["p99_ms"]
    assert result["p50_ms"] == result["exports"]["one encoding"]["p50_ms"]
    assert result["ratio"] == pytest.approx(result["exports"]["tiled history"]["p50_ms"] / result["p50_ms"])
    assert [x["size"] for x in result["growth"]["history"]["points"]] == [2, 3]
    assert [x["size"] for x in result["growth"]["candidates"]["points"]] == [4, 5]
    assert any("as long as encoding it once" in line for line in lines)
    assert max(len(line) for line in lines if "winnow" not in line) <= 80
    assert matplotlib.image.imread(picture).std() > 0.01

import pytest

from components.retrieval_evaluator.vocabularies import check_vocabularies


@pytest.fixture
def folders(tmp_path):
    for folder in ("graph/transform_fn", "a", "b"):
        assets = tmp_path / folder / "assets"
        assets.mkdir(parents=True)
        (assets / "item_id").write_bytes(b"i1\ni2\n")
    (tmp_path / "a" / "assets" / "item_ids.txt").write_bytes(b"of the package alone")
    (tmp_path / "graph" / "transform_fn" / "assets" / "city").write_bytes(b"that no tower reads")
    return tmp_path


def test_the_runs_own_vocabularies_are_right(folders):
    check_vocabularies([str(folders / "a"), str(folders / "b")], str(folders / "graph"))


@pytest.mark.parametrize("content", [b"i2\ni1\n", b"i1\n", b""])
def test_another_runs_are_refused_by_name(folders, content):
    (folders / "b" / "assets" / "item_id").write_bytes(content)
    with pytest.raises(ValueError, match="b/assets/item_id: not the vocabulary of this run"):
        check_vocabularies([str(folders / "a"), str(folders / "b")], str(folders / "graph"))

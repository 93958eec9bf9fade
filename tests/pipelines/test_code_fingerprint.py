"""The hash that makes an edited source run again: what it must follow, and what it must not."""

import pytest

from pipelines import code_fingerprint as module


@pytest.fixture
def project(tmp_path, monkeypatch):
    files = {
        "alpha/__init__.py": "",
        "alpha/entry.py": "import os\nfrom beta.one import f\nfrom . import near\n",
        "alpha/near.py": "x = 1\n",
        "alpha/other.py": "y = 1\n",
        "beta/__init__.py": "",
        "beta/one.py": "def f():\n    from beta import two\n    return two.g()\n",
        "beta/two.py": "import alpha.entry\ndef g():\n    return 1\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(module, "_ROOT", tmp_path)
    monkeypatch.setattr(module, "PACKAGES", frozenset({"alpha", "beta"}))
    module._read_module.cache_clear()
    yield tmp_path
    module._read_module.cache_clear()


def fingerprint(*names):
    module._read_module.cache_clear()
    return module.compute_code_fingerprint(*(names or ("alpha.entry",)))


@pytest.mark.parametrize("name", ["alpha/entry.py", "alpha/near.py", "beta/one.py", "beta/two.py"])
def test_an_edit_of_anything_reached_changes_it(project, name):
    before = fingerprint()
    (project / name).write_text((project / name).read_text() + "z = 2\n")
    assert fingerprint() != before


def test_an_edit_of_anything_else_does_not(project):
    before = fingerprint()
    (project / "alpha/other.py").write_text("y = 2\n")
    assert fingerprint() == before


def test_comments_and_layout_do_not_count(project):
    before = fingerprint()
    (project / "alpha/near.py").write_text("# a comment\n\nx   =   1\n")
    assert fingerprint() == before


def test_an_unknown_module_is_refused(project):
    with pytest.raises(ModuleNotFoundError, match="alpha.nothing"):
        fingerprint("alpha.nothing")


def test_the_trainer_s_fingerprint_covers_its_model_and_preprocessing():
    seen = set()
    pending = ["trainers.retrieval.runner"]
    while pending:
        name = pending.pop()
        if name not in seen:
            seen.add(name)
            pending.extend(module._read_module(name)[1])
    assert {
        "trainers.retrieval.model",
        "trainers.preprocessing",
        "trainers.layers.tower",
        "schemas.features",
    } <= seen
    assert not {name for name in seen if name.startswith(("components.", "pipelines."))}

"""A metadata store that is not what a run left."""

import pytest

from pipelines.run_metadata import RunMetadata, RunMetadataError


def test_a_missing_store_is_named(tmp_path):
    with pytest.raises(RunMetadataError, match=r"none\.sqlite: missing; `winnow run` writes it"):
        RunMetadata(tmp_path / "none.sqlite").events_dir()


@pytest.mark.parametrize("content", [b"", b"not a database, whatever its name says" * 100])
def test_a_damaged_store_is_named(tmp_path, content):
    path = tmp_path / "metadata.sqlite"
    path.write_bytes(content)
    with pytest.raises(RunMetadataError, match=r"metadata\.sqlite: not a readable ML Metadata store"):
        RunMetadata(path).events_dir()

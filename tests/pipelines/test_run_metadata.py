"""A metadata store that is not what a run left."""

import subprocess
import sys

import pytest
from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

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


@pytest.mark.slow  # ml_metadata tries again for half a minute
def test_a_store_that_is_being_written_to_is_not_called_damaged(tmp_path):
    path = tmp_path / "metadata.sqlite"
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(path)
    MetadataStore(config)
    # Another process: SQLite's locks do not hold within one.
    lock = (
        f"import sqlite3; writer = sqlite3.connect({str(path)!r}); writer.execute('BEGIN EXCLUSIVE'); "
        "print(flush=True); input()"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    writer.stdout.readline()
    try:
        with pytest.raises(RunMetadataError, match=r"metadata\.sqlite: a run is writing to it; ask again"):
            RunMetadata(path).events_dir()
    finally:
        writer.communicate("\n")

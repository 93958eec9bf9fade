"""Ways to spoil a run: each is stopped, says why, and leaves what is live as it was."""

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from components.flavours import BRUTE_FORCE, FLAVOURS, SCANN, find_live_version, live_folders, package_dir
from pipelines.run_metadata import RunMetadata

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def spoiled(path, content):
    """A file with another content while the block runs."""
    original = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(original)


@contextlib.contextmanager
def spoiled_code(workspace, file, old, new):
    path = workspace.code / file
    text = path.read_text()
    assert text.count(old) == 1, f"{file} does not hold {old!r} once"
    with spoiled(path, text.replace(old, new).encode()):
        yield


@contextlib.contextmanager
def spoiled_table(path, change):
    """A Parquet file with its table changed."""
    table = pq.read_table(path)
    sink = pa.BufferOutputStream()
    pq.write_table(change(table), sink)
    with spoiled(path, sink.getvalue().to_pybytes()):
        yield


@pytest.fixture(autouse=True)
def _what_is_live_stays(workspace, first):
    def read():
        serving = workspace.root / "serving"
        return {p.relative_to(serving): p.read_bytes() for p in serving.rglob("*") if p.is_file()}

    before = read()
    yield
    assert read() == before


def fail(workspace, *arguments):
    """Runs; returns what a failing run says."""
    done = workspace.try_run(*arguments)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def block(workspace):
    """Runs; returns the names of the checks that block the push."""
    result = workspace.run(code=1)
    assert result["verdict"] == "blocked"
    return {check["name"] for check in result["checks"] if not check["passed"]}


@pytest.fixture(scope="module")
def candidate(workspace, first):
    """Packages that were built and not yet judged; what is spoiled in them is put right again."""
    config = workspace.config.read_text()
    workspace.config.write_text(config.replace("retrieval: {", "retrieval: {seed: 2, "))
    workspace.run("--to", "FunnelBuilder")
    yield RunMetadata(workspace.root / "metadata.sqlite").outputs("FunnelBuilder")["packages"].uri
    workspace.config.write_text(config)


@pytest.fixture
def packages(workspace, candidate, tmp_path):
    workspace.edit("components/retrieval_evaluator/component.py")  # else it is cached
    shutil.copytree(candidate, tmp_path / "packages")
    yield candidate
    shutil.rmtree(candidate)
    shutil.copytree(tmp_path / "packages", candidate)


def test_a_corrupted_index(workspace, packages):
    (data,) = Path(package_dir(packages, SCANN)).glob("variables/variables.data*")
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    message = fail(workspace)
    assert "RetrievalEvaluator failed" in message and f"{SCANN}: cannot be loaded" in message


def test_an_index_of_another_run(workspace, first, packages):
    live = live_folders(workspace.root / "serving", first["live_version"])[SCANN]
    shutil.rmtree(package_dir(packages, SCANN))
    shutil.copytree(live, package_dir(packages, SCANN))
    assert block(workspace) == {"index recall at 200"}


def test_a_vocabulary_of_another_run(workspace, packages):
    for flavour in FLAVOURS:
        path = Path(package_dir(packages, flavour)) / "assets" / "item_id"
        lines = np.array(path.read_bytes().splitlines())
        path.write_bytes(b"\n".join(np.random.default_rng(0).permutation(lines)) + b"\n")
    message = fail(workspace)
    assert (
        "RetrievalEvaluator failed" in message and "assets/item_id: not the vocabulary of this run" in message
    )


def test_packages_changed_after_the_gate(workspace, packages):
    assert workspace.run("--to", "FunnelGate")["checks"]
    ids = Path(package_dir(packages, BRUTE_FORCE)) / "assets" / "item_id"
    ids.write_bytes(ids.read_bytes() + b"\n")
    message = fail(workspace)
    assert "Pusher failed" in message and "not what was judged" in message


def test_a_live_version_that_was_changed(workspace):
    serving = workspace.root / "serving"
    live = live_folders(serving, find_live_version(serving))[SCANN]
    graph = live / "saved_model.pb"
    with spoiled(graph, graph.read_bytes()[:1000]):
        message = fail(workspace)
    assert str(live) in message and "changed since they were pushed" in message


def test_weights_that_are_nan(workspace):
    old = "model.set_weights(averaging.best_weights)"
    new = "model.set_weights([w * float('nan') for w in averaging.best_weights])"
    with spoiled_code(workspace, "trainers/retrieval/train.py", old, new):
        message = fail(workspace)
    assert "IndexBuilder failed" in message and "gives NaN or infinite vectors" in message


def test_a_model_that_is_of_no_use_in_each_stage(workspace):
    """Three in one run, of which each gate sees its own."""
    fit = "model.fit(batches, epochs=config.max_epochs"
    taught = "TEACHER_LOGITS: fold(scores.logits)"
    export = "export_ranker(result.scorer, transform_output"
    spoils = {
        # Trained on one batch.
        "trainers/retrieval/train.py": (fit, "model.fit(batches.take(1), epochs=1"),
        # Taught the opposite: worse than the same student without a teacher, which the control shows.
        "trainers/scorers/teaching.py": (taught, taught.replace("scores", "-scores")),
        # Exported with each weight's rows turned round: items have others' vectors.
        "trainers/ranking/runner.py": (
            export,
            f"result.scorer.set_weights([w[::-1] for w in result.scorer.get_weights()])\n    {export}",
        ),
    }
    with contextlib.ExitStack() as stack:
        for file, (old, new) in spoils.items():
            stack.enter_context(spoiled_code(workspace, file, old, new))
        result = workspace.run(code=1)
    assert result["verdict"] == "blocked"
    failed = {(check["stage"], check["name"]) for check in result["checks"] if not check["passed"]}
    assert failed >= {
        ("retrieval", "recall_100, against popularity"),
        ("prerank", "auc, against control"),
        ("rank", "auc, against random"),
    }


def test_a_student_that_reads_a_privileged_feature(workspace):
    """It would ask a request for what a request does not have."""
    old = "roles = {f.Role.QUERY, f.Role.CANDIDATE}"
    new = "roles = {f.Role.QUERY, f.Role.CANDIDATE, f.Role.PRIVILEGED}"
    with contextlib.ExitStack() as stack:
        stack.enter_context(spoiled_code(workspace, "trainers/prerank/feature_choice.py", old, new))
        stack.enter_context(
            spoiled_code(
                workspace,
                "trainers/prerank/model.py",
                "self.candidate_features = [x for x in features if x.role is f.Role.CANDIDATE]",
                "self.candidate_features = [x for x in features if x.role is not f.Role.QUERY]",
            )
        )
        stack.enter_context(
            spoiled_code(
                workspace,
                "trainers/prerank/export.py",
                "raw = self._raw.parse(examples, f.Role.CANDIDATE)",
                "raw = self._raw.parse(examples, f.Role.CANDIDATE, f.Role.PRIVILEGED)",
            )
        )
        message = fail(workspace)
    assert "FunnelBuilder failed" in message and "reads privileged features" in message
    assert "user_shop_id_clicks" in message


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("prerank: {tasks: [clicked, converted]}", "Give the teacher the student's tasks"),
        ("distillation: {weight: 1.5}", "distillation.weight"),
        ("ranking: {disabled_groups: [history]}", "set ranking.interest to 'none'"),
    ],
)
def test_a_training_that_cannot_be(workspace, section, said):
    with spoiled(workspace.config, section.encode()):
        assert said in fail(workspace)


def test_features_from_the_future(workspace):
    """A history that reaches an hour too far."""
    old = 'sort_key(user_codes, timestamps_ms), side="left")\n    first'
    new = old.replace("timestamps_ms)", "timestamps_ms + 3_600_000)")
    with spoiled_code(workspace, "components/event_ingest/tables.py", old, new):
        message = fail(workspace)
    assert "AnomalyGate failed: features from the future" in message
    assert "impression examples, split train" in message and "page examples, split test" in message


def test_a_schema_violation(workspace):
    """Every price has its sign turned."""

    def negate(table):
        return table.set_column(table.column_names.index("price"), "price", pc.negate(table["price"]))

    with spoiled_table(workspace.events / "items.parquet", negate):
        message = fail(workspace)
    assert "AnomalyGate failed" in message and "item examples" in message and "feature price" in message


@pytest.mark.parametrize(("column", "said"), [("category", "items.parquet"), ("price", "feature price")])
def test_an_item_table_with_a_missing_column(workspace, column, said):
    """Of the core, which the log is refused for; of the source, which its schema is broken by."""
    with spoiled_table(workspace.events / "items.parquet", lambda t: t.drop([column])):
        message = fail(workspace)
    assert said in message and column in message


def test_shuffled_labels(workspace):
    """What was shown and clicked is true of some other item, by a shift of its own for each request."""
    items = np.sort(pq.read_table(workspace.events / "items.parquet")["item_id"].to_numpy())
    rng = np.random.default_rng(0)

    def shuffle(table):
        requests = np.unique(table["request_id"].to_numpy(), return_inverse=True)[1]
        shifts = rng.integers(len(items), size=requests.max() + 1)[requests]
        rows = np.searchsorted(items, table["item_id"].to_numpy())
        column = pa.array(items[(rows + shifts) % len(items)])
        return table.set_column(table.column_names.index("item_id"), "item_id", column)

    days = sorted(workspace.events.glob("impressions/*/*.parquet"))[:-2]  # the days that are trained on
    with contextlib.ExitStack() as stack:
        for path in days:
            stack.enter_context(spoiled_table(path, shuffle))
        assert "recall_100, against popularity" in block(workspace)

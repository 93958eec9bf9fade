"""What is built of the stages' models, and what is refused."""

import shutil
import types

import numpy as np
import pytest
import tensorflow as tf

from components.flavours import FLAVOURS, package_dir
from components.funnel_builder.catalogue import Catalogue
from components.funnel_builder.prerank_package import PrerankStage
from components.funnel_builder.rank_package import RankStage
from components.index_builder.build import IDS_FILE
from schemas import features as f
from trainers.prerank import export as student_export
from trainers.ranking import export as ranker_export
from trainers.retrieval import export

NUM_ITEMS = 60
TASKS = (f.CLICKED, f.CONVERTED)
DWELL = "dwell_seconds"
MODELS = ("student", "ranker")


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_package_has_the_signatures_of_all_stages(models, funnel, flavour):
    before = set(tf.saved_model.load(package_dir(str(models[0] / "retrieval"), flavour)).signatures)
    after = set(tf.saved_model.load(package_dir(funnel, flavour)).signatures)
    assert after - before == {
        *("prerank", "prerank_examples", "prerank_score_examples", "prerank_user_vector"),
        *("rank", "rank_examples", "rank_score_examples"),
    }


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_retrieval_signatures_are_unchanged(models, funnel, make_example, flavour):
    path, columns = models
    before = tf.saved_model.load(package_dir(str(path / "retrieval"), flavour)).signatures
    after = tf.saved_model.load(package_dir(funnel, flavour)).signatures
    queries = columns["query"][:5]
    values = {
        "examples": tf.constant([make_example(query=x) for x in queries]),
        "query": tf.constant(queries),
        "item_id": tf.constant([b"i%02d" % i for i in range(5)]),
        "exclude_item_id": tf.constant([[b"i01", b"i02"]] * 5),
    }
    assert len(before) == 5
    for name, function in before.items():
        inputs = {x: values[x] for x in function.structured_input_signature[1]}
        assert after[name].structured_input_signature[1].keys() == inputs.keys()
        wanted, answer = function(**inputs), after[name](**inputs)
        assert answer.keys() == wanted.keys()
        for output in wanted:
            np.testing.assert_array_equal(answer[output], wanted[output])


def test_what_a_warm_start_needs_travels_along(funnel):
    for flavour in FLAVOURS:
        assert tf.io.gfile.exists(f"{package_dir(funnel, flavour)}/{export.EXTRA_DIR}/{export.ORIGIN_FILE}")


def list_nodes(stage):
    graph = stage.from_examples.get_concrete_function().graph.as_graph_def()
    return [(node.name, node.op, list(node.input)) for node in graph.node]


@pytest.fixture
def catalogue(tmp_path):
    (tmp_path / IDS_FILE).write_text("i1\ni2\n")
    return Catalogue(np.array([b"i1", b"i2"], object), str(tmp_path / IDS_FILE))


def test_equal_students_make_equal_graphs(catalogue):
    """A loaded student gives its tasks in another order in every process."""

    def build_graph(order):
        def score(user_vectors, item_vectors):
            scores = {task: tf.reduce_sum(item_vectors, axis=2) for task in TASKS}
            return {task: scores[task] for task in order}

        signatures = {
            student_export.USER_SIGNATURE: lambda examples: {student_export.VECTORS: examples},
            student_export.SCORE_VECTORS_SIGNATURE: score,
        }
        student = types.SimpleNamespace(signatures=signatures)
        return list_nodes(PrerankStage(student, catalogue, np.zeros((2, 6), np.float32), 10))

    assert build_graph(TASKS) == build_graph(TASKS[::-1])


def test_equal_rankers_make_equal_graphs(catalogue):
    """So does a loaded ranker, and its items' features come in any order too."""
    names = ("offer", "price", "words")

    def build_graph(tasks, order):
        def rank(request, **inputs):
            scores = {task: sum(inputs[name] for name in sorted(names)) for task in TASKS}
            return {task: scores[task] for task in tasks}

        ranker = types.SimpleNamespace(signatures={ranker_export.RANK_SIGNATURE: rank})
        items = {name: np.zeros(2, np.float32) for name in order}
        return list_nodes(RankStage(ranker, catalogue, items, 10))

    assert build_graph(TASKS, names) == build_graph(TASKS[::-1], names[::-1])


@pytest.fixture
def refuse(models, tmp_path, build):
    """(message, what is another) -> the build must fail, say so, and leave nothing behind."""

    def refuse(message, **changed):
        with pytest.raises(ValueError, match=message):
            build(models[0], tmp_path / "funnel", **changed)
        assert not list((tmp_path / "funnel").glob("*"))

    return refuse


@pytest.mark.parametrize("name", MODELS)
def test_models_of_different_transform_graphs_are_refused(models, tmp_path, refuse, name):
    shutil.copytree(models[0] / name, tmp_path / name)
    changed = {f"{name}_dir": tmp_path / name}
    (tmp_path / name / "assets" / "user_id").write_text("u2\n")
    refuse(
        f"the retrieval model and the .*{name} come of different Transform graphs: .*assets/user_id differs",
        **changed,
    )
    (tmp_path / name / "assets" / "user_id").write_text("u1\n")
    (tmp_path / name / "assets" / "brand").write_text("b1\n")
    refuse(f"{name} come of .*retrieval/.*/assets/brand is missing", **changed)


def test_another_catalogue_is_refused(models, tmp_path, write_items, refuse):
    write_items(tmp_path / "items.gz", models[1], NUM_ITEMS - 3)
    refuse(f"{IDS_FILE}: 3 items .* 'i57' for one", items=tmp_path / "items.gz")


def test_vectors_that_are_not_finite_are_refused(models, tmp_path, write_items, refuse):
    broken = models[1]["item"].copy()
    broken[7, 3] = np.nan
    write_items(tmp_path / "items.gz", {**models[1], "item": broken})
    refuse("item_vector gives NaN .* for 1 of 60 rows", items=tmp_path / "items.gz")


@pytest.mark.parametrize(("name", "stage"), [("student", "prerank"), ("ranker", "rank")])
def test_a_pair_scorer_that_reads_a_privileged_feature_is_refused(
    models, tmp_path, make_model, refuse, name, stage
):
    model = make_model(name, models[0] / "user_id")
    model.save(tmp_path / name, score_examples=model.score_by_dwell())
    refuse(f"{stage}_score_examples: {DWELL}", **{f"{name}_dir": tmp_path / name})


def test_a_ranking_that_reads_a_privileged_feature_is_refused(models, tmp_path, make_model, refuse):
    """Though what reads it is a function that the package's own calls."""
    ranker = make_model("ranker", models[0] / "user_id")
    ranker.save(tmp_path / "ranker", rank_encoded=ranker.rank_examples(DWELL))
    refuse(f"rank_examples: {DWELL}", ranker_dir=tmp_path / "ranker")


@pytest.mark.parametrize("name", MODELS)
def test_a_damaged_model_is_refused_by_name(models, tmp_path, refuse, name):
    shutil.copytree(models[0] / name, tmp_path / name)
    (tmp_path / name / "saved_model.pb").write_bytes(b"not a model")
    refuse(f"{tmp_path}/{name}: cannot be loaded", **{f"{name}_dir": tmp_path / name})

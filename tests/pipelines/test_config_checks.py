"""What depends on the schema or on two sections at once is refused before a run, by its key."""

import pytest
import yaml
from pydantic import TypeAdapter

from pipelines.config import ConfigError, RunConfig, load_config
from pipelines.config_checks import check_config

OWN_SCHEMA = """
feature {{
  name: "visits"
  type: FLOAT
  value_count {{ min: 0 max: 1 }}
  presence {{ min_count: 0 }}
  annotation {{ tag: "role=privileged" tag: "group=counts" {encode} }}
}}
"""


def config(text=""):
    return TypeAdapter(RunConfig).validate_python(yaml.safe_load(text) or {})


@pytest.fixture
def folder(tmp_path):
    """A schema of its own, with a privileged feature that is encoded or is not."""

    def make(encode):
        (tmp_path / "impression.pbtxt").write_text(OWN_SCHEMA.format(encode=encode))
        return str(tmp_path)

    return make


def refuse(source, text, message):
    with pytest.raises(ConfigError, match=message):
        check_config(source, config(text))


@pytest.mark.parametrize("source", ["core", "marketplace", "movielens", "amazon"])
def test_the_defaults_pass(source):
    check_config(source, config())


@pytest.mark.parametrize("section", ["retrieval", "item_to_item", "prerank", "prerank_teacher"])
def test_a_group_that_the_schema_lacks_is_refused_with_the_nearest(section):
    refuse(
        "marketplace",
        f"{section}: {{disabled_groups: [profiel]}}",
        rf"^{section}\.disabled_groups: no group 'profiel' in the schema 'marketplace'\. "
        r"Did you mean 'profile'\? Groups: .*crosses.*user_id\.$",
    )


def test_privileged_groups_are_the_teachers_alone():
    check_config("marketplace", config("prerank_teacher: {disabled_groups: [post_event], form: md}"))
    refuse(
        "marketplace", "prerank: {disabled_groups: [interactions]}", r"^prerank\.disabled_groups: no group"
    )


@pytest.mark.parametrize("form", ["pfd", "pfd_md"])
def test_a_form_that_needs_privileged_features_needs_one_that_is_on(folder, form):
    message = rf"^prerank_teacher\.form '{form}' needs privileged features.*role=privileged.*'md'"
    teacher = f"prerank_teacher: {{form: {form}, disabled_groups: [interactions]}}"
    for source in ("core", "marketplace"):
        refuse(source, teacher, message)
    # Without an encoding no model sees it.
    refuse(folder(encode=""), teacher, message)
    check_config(folder(encode='tag: "encode=zscore"'), config(teacher))


def test_post_event_features_alone_are_not_enough():
    """They are the conversion's, and every source has the dwell time."""
    check_config("core", config("prerank: {tasks: [clicked]}"))
    message = r"^prerank_teacher\.form 'pfd_md' needs privileged"
    refuse("core", "prerank_teacher: {disabled_groups: [interactions]}", message)


def test_a_teacher_needs_its_students_tasks():
    both = "[clicked, converted]"
    refuse(
        "marketplace",
        f"prerank: {{tasks: {both}}}\nprerank_teacher: {{tasks: [clicked]}}",
        r"^prerank\.tasks is \['clicked', 'converted'\] and prerank_teacher\.tasks \['clicked'\]",
    )
    more = f"prerank: {{tasks: [clicked]}}\nprerank_teacher: {{tasks: {both}}}"
    check_config("marketplace", config(more))


def test_a_teacher_sees_what_its_student_sees():
    teacher = "prerank_teacher: {disabled_groups: [profile, history]}\n"
    refuse(
        "marketplace",
        teacher + "prerank: {disabled_groups: [history]}",
        r"^prerank_teacher\.disabled_groups \['profile'\]: the student sees them",
    )
    check_config("marketplace", config(teacher + "prerank: {disabled_groups: [history, profile, text]}"))


def test_both_sides_keep_a_feature():
    query = "disabled_groups: [history, profile, context, time, user_id, crosses]"
    both = f"prerank: {{{query}}}\nprerank_teacher: {{{query}}}"
    refuse(
        "marketplace", both, r"^prerank\.disabled_groups .* leave the query side no feature: take one of con"
    )
    of_items = "disabled_groups: [item_id, attributes, text, time, crosses]"
    both = f"prerank: {{{of_items}}}\nprerank_teacher: {{{of_items}}}"
    refuse("marketplace", both, r"leave the candidate side no feature")
    check_config("marketplace", config(both.replace(", crosses", "")))


def test_the_crosses_that_a_student_sees_are_those_of_one_side():
    teacher = "prerank_teacher: {disabled_groups: [crosses]}\n"
    message = r"^prerank_teacher\.disabled_groups \['crosses'\]: the student sees them"
    for crosses in ("", "transform: {crosses: {city x device: 9, gender x category: 9}}"):
        refuse("marketplace", teacher + crosses, message)
    refuse("marketplace", teacher + "transform: {crosses: {category x brand: 9}}", message)
    check_config("marketplace", config(teacher + "prerank: {disabled_groups: [crosses]}"))
    for crosses in ("", "gender x category: 9"):
        check_config("marketplace", config(teacher + f"transform: {{crosses: {{{crosses}}}}}"))


def test_shares_of_targets_are_as_many_as_targets():
    tasks = "prerank: {tasks: [clicked]}\nprerank_teacher: {tasks: [clicked]}\n"
    losses = "distillation: {losses: [{form: logits}, {form: multi_target, soft_weights: %s}]}"
    refuse(
        "marketplace",
        tasks + losses % "[0.5, 0.5]",
        r"^distillation\.losses: soft_weights \[\[0\.5, 0\.5\]\] do not fit prerank\.tasks \['clicked'\]",
    )
    check_config("marketplace", config(tasks + losses % "[0.5]"))


def test_joint_training_is_no_runs():
    refuse("marketplace", "distillation: {mode: joint}", r"^distillation\.mode 'joint'.*'two_stage'")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "distillation: {losses: [{form: logits, temprature: 2}]}",
            r"distillation\.losses\.0\.temprature: unknown key\. Did you mean 'temperature'\?",
        ),
        (
            "distillation: {losses: [{form: logits}, {form: hidden, wieght: 2}]}",
            r"distillation\.losses\.1\.wieght: unknown key\. Did you mean 'weight'\?",
        ),
        (
            "distillation: {losses: [{form: logitz}]}",
            r"distillation\.losses\.0\.form: .*unknown form 'logitz'\. Did you mean 'logits'\?",
        ),
        ("distillation: {lambda: 0.5}", r"distillation\.lambda: unknown key\. Did you mean"),
        (
            "distillation: {losses: [{form: multi_target, soft_weights: [0.5]}, "
            "{form: multi_target, soft_weights: [0.4]}]}",
            r"distillation: .*expected multi_target once",
        ),
        ("prerank: {learning_rate: .inf}", r"prerank\.learning_rate: .*finite number"),
        ("retrieval: {weight_decay: .nan}", r"retrieval\.weight_decay: .*finite number"),
        ("prerank: {normalize: false}", r"prerank\.normalize: unknown key"),
        ("distillation: {weight: 2}", r"distillation\.weight: .*less than or equal to 1, got 2"),
        ("prerank_teacher: {deep_dim: [4]}", r"prerank_teacher\.deep_dim: .*Did you mean 'deep_dims'\?"),
    ],
)
def test_a_file_with_an_unknown_key_names_the_nearest(tmp_path, text, message):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(path)

"""What depends on the schema or on two sections at once is refused before a run, by its key."""

from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from pipelines.config import ConfigError, RunConfig, load_config
from pipelines.config_checks import check_config

ROOT = Path(__file__).parents[2]
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


@pytest.mark.parametrize(
    "path", sorted((ROOT / "pipelines" / "configs").glob("*.yaml")), ids=lambda x: x.stem
)
def test_the_files_that_come_along_pass(path):
    check_config(path.stem, load_config(path))


@pytest.mark.parametrize("section", ["retrieval", "item_to_item", "prerank", "prerank_teacher", "ranking"])
def test_a_group_that_the_schema_lacks_is_refused_with_the_nearest(section):
    refuse(
        "marketplace",
        f"{section}: {{disabled_groups: [profiel]}}",
        rf"^{section}\.disabled_groups: no group 'profiel' in the schema 'marketplace'\. "
        r"Did you mean 'profile'\? Groups: .*crosses.*user_id\.$",
    )


def test_privileged_groups_are_the_teachers_alone():
    check_config("marketplace", config("prerank_teacher: {disabled_groups: [post_event], form: md}"))
    for section in ("prerank", "ranking"):
        disabled = f"{section}: {{disabled_groups: [interactions]}}"
        refuse("marketplace", disabled, rf"^{section}\.disabled_groups: no group")


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


# A ranker with a booster learns from no teacher.
ALONE = "ranking: {booster_units: 64}\n"


def test_a_teacher_sees_what_its_student_sees():
    teacher = "prerank_teacher: {disabled_groups: [profile, history]}\n" + ALONE
    refuse(
        "marketplace",
        teacher + "prerank: {disabled_groups: [history]}",
        r"^prerank_teacher\.disabled_groups \['profile'\]: the student sees them",
    )
    check_config("marketplace", config(teacher + "prerank: {disabled_groups: [history, profile, text]}"))


def test_a_teacher_sees_what_the_ranker_sees():
    """Unless there is a booster, it is the ranker's teacher too."""
    teacher = "prerank_teacher: {disabled_groups: [profile, %s]}\nprerank: {disabled_groups: [profile, %s]}\n"
    message = r"^prerank_teacher\.disabled_groups \['%s'\]: the ranker sees them.*ranking\.disabled_groups"
    text = teacher % ("text", "text")
    refuse("marketplace", text + "ranking: {disabled_groups: [text]}", message % "profile")
    refuse("marketplace", text + "ranking: {disabled_groups: [profile]}", message % "text")
    check_config("marketplace", config(text + "ranking: {disabled_groups: [profile, text]}"))
    check_config("marketplace", config(text + ALONE))
    # Without interest it looks at no history.
    text = teacher % ("history", "history")
    refuse("marketplace", text + "ranking: {disabled_groups: [profile]}", message % "history")
    check_config("marketplace", config(text + "ranking: {interest: none, disabled_groups: [profile]}"))


def test_both_sides_keep_a_feature():
    query = "disabled_groups: [history, profile, context, time, user_id, crosses]"
    both = f"prerank: {{{query}}}\nprerank_teacher: {{{query}}}\n{ALONE}"
    refuse(
        "marketplace", both, r"^prerank\.disabled_groups .* leave the query side no feature: take one of con"
    )
    of_items = "disabled_groups: [item_id, attributes, text, time, crosses]"
    both = f"prerank: {{{of_items}}}\nprerank_teacher: {{{of_items}}}\n{ALONE}"
    refuse("marketplace", both, r"leave the candidate side no feature")
    check_config("marketplace", config(both.replace(", crosses", "")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "disabled_groups: [history, profile, context, time, user_id, crosses]",
            r"^ranking\.disabled_groups .* leave the query side no feature: take one of context,",
        ),
        (
            "disabled_groups: [item_id, attributes, text, crosses]",
            r"^ranking\.disabled_groups .* leave the candidate side no feature: take one of attributes,",
        ),
        (
            "disabled_groups: [history]",
            r"^ranking\.interest 'augru' needs a history of what items have.*"
            r"ranking\.disabled_groups \['history'\] leave none.*or set ranking\.interest to 'none'",
        ),
        # A history of what the items are not told by is none.
        (
            "interest: din, disabled_groups: [item_id, attributes]",
            r"^ranking\.interest 'din' needs a history",
        ),
        (
            "auxiliary_weight: 0.5, disabled_groups: [item_id]",
            r"^ranking\.auxiliary_weight 0\.5 needs item ids.* set ranking\.auxiliary_weight to 0",
        ),
        (
            "interest: none, disabled_groups: [profile, context, time, user_id, crosses]",
            r"^ranking\.disabled_groups .* leave of user and context the history alone.*interest 'none'",
        ),
    ],
)
def test_a_ranker_that_could_not_be_trained_is_refused_at_once(text, message):
    refuse("marketplace", f"ranking: {{booster_units: 64, {text}}}", message)


@pytest.mark.parametrize(
    "text",
    [
        "interest: none, disabled_groups: [history]",
        "interest: none, disabled_groups: [history, profile, context, time, user_id]",  # crosses are left
        "auxiliary_weight: 0, disabled_groups: [item_id]",
        "interest: din, disabled_groups: [item_id]",  # which has no auxiliary loss
        "disabled_groups: [profile, context, time, user_id, crosses]",
        "disabled_groups: [attributes, text, crosses]",
    ],
)
def test_a_ranker_that_can_be_trained_is_not_refused(text):
    check_config("marketplace", config(f"ranking: {{booster_units: 64, {text}}}"))


def test_a_history_of_a_schema_of_ones_own_counts(folder, tmp_path):
    """And a list of the query that no item has does not."""
    source = folder(encode='tag: "encode=zscore"')
    schema = """
        feature {
          name: "%s" type: BYTES value_count { min: 0 max: 50 } presence { min_count: 0 }
          annotation { tag: "role=query" tag: "group=%s" tag: "encode=vocabulary" }
        }"""
    (tmp_path / "query.pbtxt").write_text(schema % ("history_maker", "makers") + schema % ("moods", "moods"))
    (tmp_path / "item.pbtxt").write_text(
        'feature { name: "maker" type: BYTES value_count { min: 0 max: 1 } presence { min_count: 0 }\n'
        'annotation { tag: "role=candidate" tag: "group=maker" tag: "encode=vocabulary" } }'
    )
    text = "ranking: {booster_units: 64, interest: din, disabled_groups: [history%s]}"
    check_config(source, config(text % ""))
    refuse(source, text % ", makers", r"^ranking\.interest 'din' needs a history")


def test_the_crosses_that_a_student_sees_are_those_of_one_side():
    teacher = "prerank_teacher: {disabled_groups: [crosses]}\n" + ALONE
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
        (
            "distillation: {losses: [{form: logits, temperature: 0}]}",
            r"distillation\.losses\.0\.temperature: .*greater than 0, got 0",
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
        ("ranking: {interests: din}", r"ranking\.interests: unknown key\. Did you mean 'interest'\?"),
        ("ranking: {interest: dein}", r"ranking\.interest: .*'din'.*'augru_official', got 'dein'"),
        ("ranking: {booster_units: 0}", r"ranking\.booster_units: .*got 0"),
        (
            "ranking: {auxiliary_weight: -1}",
            r"ranking\.auxiliary_weight: .*greater than or equal to 0, got -1",
        ),
        ("ranking: {tasks: [clicked]}", r"ranking\.tasks: unknown key"),
        ("gates: {prerank_tolerence: 1}", r"gates\.prerank_tolerence: .*Did you mean 'prerank_tolerance'\?"),
    ],
)
def test_a_file_with_an_unknown_key_names_the_nearest(tmp_path, text, message):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(path)

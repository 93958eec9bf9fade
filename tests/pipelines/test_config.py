import dataclasses
import json
import re
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from pipelines.config import ConfigError, RunConfig, load_config


def write(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


def test_defaults_without_a_file():
    assert load_config(None) == RunConfig()


def test_a_file_changes_what_it_names(tmp_path):
    config = load_config(write(tmp_path, "retrieval:\n  hidden_dims: [32, 16]\n  seed: 7\n"))
    assert config.retrieval.hidden_dims == (32, 16) and config.retrieval.seed == 7
    assert config.gates == RunConfig().gates


def test_crosses_of_a_file_replace_the_default_ones(tmp_path):
    config = load_config(write(tmp_path, "transform: {crosses: {user_id x item_id: 1000}}"))
    assert config.transform.crosses == {"user_id x item_id": 1000}
    assert load_config(write(tmp_path, "transform: {crosses: {}}")).transform.crosses == {}


def test_an_empty_file_changes_nothing(tmp_path):
    assert load_config(write(tmp_path, "")) == RunConfig()


def test_a_config_survives_yaml_and_json(tmp_path):
    config = load_config(
        write(
            tmp_path,
            "retrieval: {hidden_dims: [8], disabled_groups: [time]}\ntransform: {crosses: {a x b: 9}}",
        )
    )
    as_json = json.loads(json.dumps(dataclasses.asdict(config)))
    assert TypeAdapter(RunConfig).validate_python(as_json) == config
    assert load_config(write(tmp_path, yaml.safe_dump(as_json))) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("retreival: {seed: 1}", "retreival: unknown key. Did you mean 'retrieval'"),
        ("retrieval: {embeding_dim: 3}", "retrieval.embeding_dim: unknown key. Did you mean 'embedding_dim'"),
        ("retrieval: {dropout: 2}", "retrieval.dropout: .*less than 1, got 2"),
        ("retrieval: {batch_size: many}", "retrieval.batch_size: .*integer.*got 'many'"),
        ("item_to_item: {session_gap_seconds: 1800}", "session_gap_seconds: .*power of two.*got 1800"),
        ("item_to_item: {warm_start: true}", "item_to_item.warm_start: unknown key"),
        ("transform: {croses: {}}", "transform.croses: unknown key. Did you mean 'crosses'"),
        ("transform: {crosses: {a x b: 1}}", "transform.crosses.a x b: .*greater than or equal to 2, got 1"),
        ("transform: {crosses: [a x b]}", "transform.crosses: .*dictionary"),
        ("splits: {eval_fraction: 0.6, test_fraction: 0.6}", "splits: .*less than 1"),
        ("gates: 3", "gates: "),
        ("- a\n- b", "top level"),
        ("a: [", "YAML"),
    ],
)
def test_a_bad_file_is_refused_with_its_name_and_key(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_or_no_text(tmp_path):
    with pytest.raises(ConfigError, match="nowhere.yaml"):
        load_config(tmp_path / "nowhere.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ConfigError, match="binary.yaml"):
        load_config(tmp_path / "binary.yaml")


def test_the_defaults_that_are_documented_are_the_defaults():
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    content = yaml.safe_load(shown)
    assert {"retrieval", "prerank", "ranking", "gates"} < content.keys()
    assert TypeAdapter(RunConfig).validate_python(content) == RunConfig()

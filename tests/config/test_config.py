"""Configurations that cannot be used: the message names the key and the remedy."""

import pytest
import yaml

from sppo_ray.config import load_config
from sppo_ray.errors import ConfigError, UserError


def error(*overrides: str, **settings) -> str:
    with pytest.raises(ConfigError) as raised:
        load_config(overrides=list(overrides), **settings)
    return str(raised.value)


def test_nothing_given_is_the_playground():
    assert load_config().recipe == "playground"


def test_overrides_reach_their_keys():
    config = load_config(overrides=["training.eta=7", "judge.estimator=pooled", "prompts.limit=3", "seed=1"])
    assert (config.training.eta, config.judge.estimator, config.prompts.limit, config.seed) == (7.0, "pooled", 3, 1)


def test_an_override_opens_a_section_that_the_file_leaves_out():
    config = load_config("gemma-2-9b-it", overrides=["evaluation.prompts.source=held_out.jsonl"])
    assert config.evaluation.prompts is not None and config.evaluation.prompts.source == "held_out.jsonl"


@pytest.mark.parametrize(
    "override, words",
    [
        ("seed=-1", ["seed is -1", "greater than or equal to 0"]),
        ("seed=4294967296", ["seed is 4294967296", "less than 4294967296"]),
        ("evaluation.held_out=-5", ["evaluation.held_out is -5", "greater than or equal to 0"]),
        ("generators.cpus=-1", ["generators.cpus is -1", "greater than or equal to 0"]),
        ("rankers.gpus=-1", ["rankers.gpus is -1", "greater than or equal to 0"]),
        ("training.gpus=-1", ["training.gpus is -1", "greater than or equal to 0"]),
        ("training.eta=.inf", ["training.eta is inf", "finite"]),
        ("training.eta=.nan", ["training.eta is nan", "finite"]),
        ("policy.thoughts=(", ["policy.thoughts is '(': it is not a regular expression: missing )"]),
        ("training.etta=1", ["there is no key training.etta", "did you mean training.eta"]),
        ("trainig.eta=1", ["there is no key trainig", "training"]),
        ("judge.estimatr=pooled", ["judge.estimator"]),
        ("evaluation.prompts.sourse=x", ["evaluation.prompts.source"]),
        ("generators.size=3", ["generators.min", "generators.max"]),
        ("judge.estimator=bradley", ["judge.estimator", "'pairwise' or 'pooled'"]),
        ("training.loss=sppo_hrad", ["training.loss=sppo_hrad", "did you mean sppo_hard"]),
        ("training.eta=-1", ["training.eta is -1", "greater than 0"]),
        ("training.eta=much", ["training.eta is 'much'"]),
        ("generation.top_p=1.5", ["generation.top_p is 1.5"]),
        ("generation.candidates=1", ["generation.candidates is 1", "at least 2", "5"]),
        ("policy.max_prompt_length=1024", ["policy.max_prompt_length is 1024", "policy.max_length"]),
        ("training.batch_size=5", ["training.batch_size is 5", "2 workers", "multiple"]),
        ("generators.min=2", ["generators.max is 1", "generators.min = 2"]),
        ("rankers={min: 3, max: 2}", ["rankers.max is 2", "rankers.min = 3"]),
        ("training.eta", ["not an override", "key.path=value"]),
        ("seed.x=1", ["seed is a value, not a section"]),
        ("training.eta={", ["not YAML"]),
        ("prompts={}", ["prompts.source is missing"]),
    ],
)
def test_a_bad_override_names_the_key_and_the_remedy(override, words):
    message = error(override)
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["generation.tensor_parallel=2"], ["generation.tensor_parallel is 2", "tensor_parallel=1", "disaggregated"]),
        (["training.gpus=0.05", "generators.max=4"], ["generators.max + rankers.max is 5", "training.workers = 8"]),
    ],
)
def test_colocated_roles_that_cannot_share_gpus_are_told_why(overrides, words):
    message = error("placement=colocated", *overrides, recipe="gemma-2-9b-it")
    assert all(word in message for word in words)


def test_without_gpus_a_generator_of_several_processes_takes_turns():
    overrides = ["placement=colocated", "generation.tensor_parallel=2"]
    assert load_config(overrides=overrides).placement == "colocated"


@pytest.mark.parametrize("value", ["/data/a #b.jsonl", "#b.jsonl", "&a b", "/data/a#b", '"/data/a #b.jsonl"'])
def test_what_yaml_would_cut_off_is_part_of_a_value(value):
    assert load_config(overrides=[f"prompts.source={value}"]).prompts.source == value.strip('"')


@pytest.mark.parametrize("value", ["0", "no", "2024-01-01", "a: b", "@a"])
def test_text_that_yaml_takes_for_something_else_is_told_to_be_quoted(value):
    assert """quote it for the shell and for YAML: prompts.column='"..."'""" in error(f"prompts.column={value}")
    assert load_config(overrides=[f'prompts.column="{value}"']).prompts.column == value


def test_every_fault_is_named_at_once():
    message = error("training.etta=1", "judge.estimatr=pooled", "seed=x")
    assert all(word in message for word in ("training.eta", "judge.estimator", "seed is 'x'"))


def test_an_unknown_recipe_is_told_the_nearest():
    assert "gemma-2-9b-it" in error(recipe="gemma-2-9b")
    assert "playground" in error(recipe="zzz")


def test_files_that_are_no_configuration(tmp_path):
    missing, broken, empty = tmp_path / "missing.yaml", tmp_path / "broken.yaml", tmp_path / "empty.yaml"
    broken.write_text("a: [")
    empty.write_text("")
    assert "no such file" in error(file=missing)
    assert "not YAML" in error(file=broken)
    assert "holds no settings" in error(file=empty)
    assert "cannot be read" in error(file=tmp_path)


def test_a_file_in_the_recipes_format(tmp_path):
    tree = load_config().model_dump(mode="json") | {"recipe": "mine"}
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(tree))
    assert load_config(file=file, overrides=["seed=3"]).model_dump() == tree | {"seed": 3}


def test_the_config_of_a_run_folder_is_a_configuration(tmp_path):
    config = load_config("gemma-2-9b-it")
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"config": config.model_dump(mode="json"), "git_revision": "abc"}))
    assert load_config(file=file) == config


def test_a_configuration_does_not_change():
    with pytest.raises(ValueError, match="frozen"):
        load_config().training.eta = 3.0  # type: ignore[misc]


def test_config_errors_are_the_user_s():
    assert issubclass(ConfigError, UserError)

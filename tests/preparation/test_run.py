"""What is checked and said of judge, loss and optimizer before an engine starts, and what engines are given."""

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from sppo_ray.config import load_config
from sppo_ray.errors import ConfigError
from sppo_ray.playground import Playground
from sppo_ray.preparation import about, prepare

PYTHON = ["judge.kind=python", "judge.model=math:fsum"]


@pytest.mark.parametrize(
    "overrides, told",
    [([*PYTHON, "rankers.gpus=1"], True), ([*PYTHON, "rankers.gpus=0"], False), (["rankers.gpus=1"], False)],
)
def test_a_gpu_that_the_judge_does_not_use_is_pointed_out(
    playground: Playground, overrides: list[str], told: bool
) -> None:
    said: list[str] = []
    prepare(load_config(overrides=overrides), said.append)
    line = "judge.kind=python needs no GPU: rankers.gpus=0 leaves it to the other roles"
    assert (line in said) is told


@pytest.mark.parametrize(
    "override, words",
    [
        ("judge.kind=pairm", "did you mean pairrm"),
        ("evaluation.judge={kind: pairm, model: x}", "did you mean pairrm"),
        ("evaluation.judge={kind: python, model: nowhere:f}", "judge.model=nowhere:f cannot be imported"),
        ("training.optimizer=adam", "did you mean adamw"),
        ("training.loss=nowhere:loss", "training.loss=nowhere:loss cannot be imported"),
        ("training.optimizer=math:pi", "training.optimizer=math:pi is of type float; expected OptimizerKind"),
    ],
)
def test_what_cannot_be_loaded_is_refused(playground: Playground, override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        prepare(load_config(overrides=[override]), lambda _: None)


def test_paths_are_absolute_before_anything_is_sent_to_an_engine(
    playground: Playground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("policy", "judge"):
        shutil.copytree(getattr(playground, name), tmp_path / name)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/asked.jsonl").write_text('{"prompt": "a"}\n')
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "b"}\n')
    (tmp_path / "playground").mkdir()  # no match for the name of the built-in world
    monkeypatch.chdir(tmp_path)
    names = ["policy.model=policy", "judge.model=./judge", "prompts.source=prompts.jsonl"]
    with monkeypatch.context() as home:
        home.setenv("HOME", str(tmp_path / "home"))
        found = prepare(
            load_config(overrides=[*names, "evaluation.prompts.source=~/asked.jsonl", "iterations=1"]), print
        )
    config = found.config
    assert [config.policy.model, config.judge.model, config.prompts.source] == [
        str(tmp_path / name) for name in ("policy", "judge", "prompts.jsonl")
    ]
    assert config.evaluation.prompts is not None
    assert config.evaluation.prompts.source == str(tmp_path / "home/asked.jsonl")
    assert found.base.uri == str(tmp_path / "policy")
    world = prepare(load_config(overrides=["iterations=1"]), print).config
    assert world.policy.model == str(playground.policy)


def test_the_playground_judges_of_each_role(playground: Playground) -> None:
    rule = "evaluation.judge={kind: python, model: playground}"
    found = prepare(load_config(overrides=[rule]), lambda line: None).config
    assert [judge.model for judge in found.judges] == [str(playground.judge), "sppo_ray.playground:rule_scores"]
    assert found.evaluation.prompts is not None and found.evaluation.prompts.split == "held_out"


def test_a_machine_without_git_has_no_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert about()["git_revision"] is None
    assert "torch" in about()["versions"]


def test_variables_of_the_template_and_thoughts_reach_a_run(playground: Playground, tmp_path: Path) -> None:
    model = shutil.copytree(playground.policy, tmp_path / "model")
    settings = json.loads((model / "tokenizer_config.json").read_text())
    settings["chat_template"] += "{% if not (think | default(true)) %}{{ '<think></think>' }}{% endif %}"
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    overrides = [f"policy.model={model}", "iterations=1", "policy.chat_template_kwargs={think: false}"]
    found = prepare(load_config(overrides=overrides), lambda _: None)
    texts = [AutoTokenizer.from_pretrained(model).decode(prompt.token_ids) for prompt in found.prompts[1]]
    assert all(text.endswith("<start_of_turn>model\n<think></think>") for text in texts)
    assert "</think>" in str(found.config.policy.thoughts)


def test_targets_that_the_model_does_not_have_are_named_before_anything_starts(playground: Playground) -> None:
    adapter = ["training.adapter.rank=4", "training.adapter.targets=[q_proj, self_attn.v_proj, wqkv]"]
    words = "no linear layer 'wqkv': choose from down_proj, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, v_proj"
    with pytest.raises(ConfigError, match=words):
        prepare(load_config(overrides=[f"policy.model={playground.policy}", *adapter]), say=lambda line: None)

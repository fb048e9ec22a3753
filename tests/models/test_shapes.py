"""Shapes against published sizes and by hand, and which names are the hub's."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sppo_ray.config import JudgeSettings
from sppo_ray.errors import ConfigError
from sppo_ray.judging import judge_kind
from sppo_ray.models import NAMED, Shape, from_config, is_hub_name, model_shape
from sppo_ray.playground import Playground

# As the models' hub pages count their parameters.
PUBLISHED = {
    "google/gemma-2-9b-it": 9_241_705_984,
    "google/gemma-2-27b-it": 27_227_128_320,
    "mistralai/Mistral-7B-Instruct-v0.2": 7_241_732_096,
    "meta-llama/Meta-Llama-3-8B-Instruct": 8_030_261_248,
}
LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": 2,
    "hidden_size": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 8,
    "vocab_size": 10,
    "max_position_embeddings": 64,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_shapes_have_the_published_number_of_parameters(name: str) -> None:
    assert NAMED[name].parameters == PUBLISHED[name]


# Qwen 3 and Gemma 3 norm queries and keys, too, which the shape leaves out: less than 0.01 %.
ABOUT = {
    "mistralai/Mistral-7B-Instruct-v0.3": 7_248_023_552,
    "mistralai/Mistral-Nemo-Instruct-2407": 12_247_782_400,
    "mistralai/Mistral-Small-24B-Instruct-2501": 23_572_403_200,
    "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
    "meta-llama/Llama-3.1-70B-Instruct": 70_553_706_496,
    "Qwen/Qwen3-4B": 4_022_468_096,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "Qwen/Qwen3-14B": 14_768_307_200,
    "Qwen/Qwen3-32B": 32_762_123_264,
    "microsoft/phi-4": 14_659_507_200,
    "google/gemma-3-1b-it": 999_885_952,
}


@pytest.mark.parametrize("name", ABOUT)
def test_shapes_of_newer_models(name: str) -> None:
    assert NAMED[name].parameters == pytest.approx(ABOUT[name], rel=1e-4)


def test_pairrm_has_about_430_million() -> None:
    assert NAMED["llm-blender/PairRM"].parameters == pytest.approx(0.43e9, rel=0.02)


def test_a_shape_from_the_keys_of_a_llama() -> None:
    found = from_config(LLAMA)
    assert found == Shape(
        layers=2, hidden=4, heads=2, kv_heads=1, head_dim=2, intermediate=8, vocabulary=10, context=64
    )
    # A layer: q and o 2 x 4 x 4, k and v 2 x 4 x 2, three of 4 x 8, norms 2 x 4 = 152; two of them, 2 x 40 and 4.
    assert found.parameters == 388
    # One matrix for embeddings and logits: 40 fewer.
    assert from_config(LLAMA | {"tie_word_embeddings": True}).parameters == 348
    # Gemma 2: tied, two more norms per layer, 2 x 2 x 4 numbers.
    assert from_config(LLAMA | {"model_type": "gemma2"}).parameters == 348 + 16


@pytest.mark.parametrize(
    "config, shape",
    [
        # The published config.json of Gemma 3 4B leaves out what its class has by default.
        (
            {
                "model_type": "gemma3",
                "text_config": {
                    "hidden_size": 2560,
                    "intermediate_size": 10240,
                    "model_type": "gemma3_text",
                    "num_hidden_layers": 34,
                },
            },
            Shape(34, 2560, 8, 4, 256, 10240, 262208, 131072, tied=True, norms=4),
        ),
        ({"model_type": "mistral3", "text_config": LLAMA}, from_config(LLAMA)),
    ],
)
def test_a_shape_of_a_composite_model_is_that_of_its_language_model(config: dict[str, Any], shape: Shape) -> None:
    assert from_config(config) == shape


@pytest.mark.parametrize("kind", ["newer-than-this", "gpt2"])
def test_a_shape_that_its_class_does_not_tell_is_one_line(kind: str) -> None:
    with pytest.raises(ConfigError, match=f"the shape of a {kind} model is unknown"):
        from_config({"model_type": kind})


def test_a_config_on_this_machine_wins_over_the_table(playground: Playground) -> None:
    found = model_shape(str(playground.policy), "policy.model")
    assert replace(found, source="here") == NAMED["playground"]
    folder, name = (JudgeSettings(model=model) for model in (str(playground.judge), "playground"))
    assert judge_kind(folder).demand(16, 12).operations == judge_kind(name).demand(16, 12).operations > 0


def test_an_unknown_model_is_named_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"policy\.model=nobody/nothing: its shape is unknown"):
        model_shape("nobody/nothing", "policy.model")
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    assert model_shape(str(tmp_path), "policy.model").layers == 2


@pytest.mark.parametrize(
    "name, hub", [("google/gemma-2-9b-it", True), ("/models/gemma", False), ("gemma", False), ("a/b/c", False)]
)
def test_names_of_the_hub(name: str, hub: bool) -> None:
    assert is_hub_name(name) is hub


def test_a_folder_here_is_not_a_name_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models/mine").mkdir(parents=True)
    assert not is_hub_name("models/mine")

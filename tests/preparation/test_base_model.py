"""The model that a run starts from: what it may lack, and one line for what cannot be used."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

from sppo_ray.config import PolicySettings
from sppo_ray.errors import ModelError
from sppo_ray.playground import Playground
from sppo_ray.preparation.base_model import check_publishing, read_model
from sppo_ray.run_folder.publishing import copy_base, torch_dtype
from sppo_ray.training.logprobs import Scorer
from tests import ROOT, SHARED

TEXT = {
    "vocab_size": 1239,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
}
VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION |= {"image_size": 28, "patch_size": 14}
COMPOSITE = {
    "gemma3": {"text_config": TEXT, "vision_config": VISION | {"model_type": "siglip_vision_model"}},
    "mistral3": {
        "text_config": TEXT | {"model_type": "mistral"},
        "vision_config": VISION | {"model_type": "pixtral"},
    },
    "qwen3_5": {
        "text_config": TEXT
        | {"layer_types": ["linear_attention", "full_attention"]}
        | {f"linear_{name}": 2 for name in ("num_key_heads", "num_value_heads")}
        | {f"linear_{name}_head_dim": 16 for name in ("key", "value")},
        "vision_config": {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "patch_size": 14}
        | {"out_hidden_size": 32, "num_position_embeddings": 16},
    },
    "llama4": {
        "text_config": TEXT | {"num_local_experts": 2, "intermediate_size_mlp": 64, "interleave_moe_layer_step": 2},
        "vision_config": VISION
        | {f"{part}_dim": 16 for part in ("vision_output", "projector_input", "projector_output")},
    },
}


def settings(folder: Path, **more: object) -> PolicySettings:
    return PolicySettings(model=str(folder), dtype="float32", **more)


@pytest.fixture
def model(playground: Playground, tmp_path: Path) -> Path:
    return Path(shutil.copytree(playground.policy, tmp_path / "model"))


def change(file: Path, **keys: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | keys))


def composite(kind: str, playground: Playground, folder: Path) -> Path:
    """A tiny model with a vision part, random weights and the playground's tokenizer."""
    shutil.copytree(playground.policy, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    (folder / "config.json").write_text(json.dumps({"model_type": kind} | COMPOSITE[kind]))
    torch.manual_seed(0)
    AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", COMPOSITE)
def test_a_composite_model_is_refused_and_its_language_model_runs(
    playground: Playground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """As docs/models.md says: same logits, and the trainer's log-probabilities are those of the logits."""
    whole = composite(kind, playground, tmp_path / "whole")
    with pytest.raises(ModelError, match=rf"is a {kind} model with parts for images .*docs/models\.md"):
        read_model(settings(whole))
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/models.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(code.replace("google/gemma-3-4b-it", str(whole)))
    text = tmp_path / "gemma-3-4b-text"
    assert read_model(settings(text)).context == 128
    check_publishing(settings(text))

    ids = torch.tensor([[2, 5, 90, 322, 87, 11]])
    before, after = (kind.from_pretrained(folder).eval() for kind, folder in (
        (AutoModelForImageTextToText, whole), (AutoModelForCausalLM, text)))  # fmt: skip
    logits = after(input_ids=ids).logits
    assert torch.allclose(before(input_ids=ids).logits, logits, atol=1e-5)
    scored = torch.tensor([[False, False, False, True, True, True]])
    expected = logits.log_softmax(-1)[0, 2:5].gather(1, ids[0, 3:, None])[:, 0]
    assert torch.allclose(Scorer(after)(ids, torch.ones_like(ids), scored)[0, 3:], expected, atol=1e-5)


def test_a_model_without_a_generation_config_has_the_eos_of_its_config(model: Path, tmp_path: Path) -> None:
    assert read_model(settings(model)).stop_token_ids == [1, 5]
    (model / "generation_config.json").unlink()
    change(model / "config.json", eos_token_id=7)
    assert read_model(settings(model)).stop_token_ids == [1, 5, 7]  # 1: the tokenizer's, 5: the template's
    check_publishing(settings(model))
    copy_base(str(model), tmp_path / "copy", torch_dtype("float32"), False)
    assert not (tmp_path / "copy/generation_config.json").exists()
    assert read_model(settings(tmp_path / "copy")).stop_token_ids == [1, 5, 7]


def test_several_chat_templates_are_published(model: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    template = tokenizer.chat_template
    templates = [{"name": "default", "template": template}, {"name": "tool_use", "template": "tools"}]
    change(model / "tokenizer_config.json", chat_template=templates)
    copy_base(str(model), tmp_path / "copy", torch_dtype("float32"), False)
    assert all(path.is_file() for path in (tmp_path / "copy").iterdir())
    assert AutoTokenizer.from_pretrained(tmp_path / "copy").chat_template == {"default": template, "tool_use": "tools"}


@pytest.mark.parametrize(
    "file, content, words",
    [
        ("config.json", '{"model_type": "newer-than-this"}', r"its config\.json cannot be used \(.*newer-than-this"),
        ("config.json", "{", r"its config\.json cannot be used"),
        ("config.json", '{"model_type": "vit"}', "is a vit model, not a causal language model"),
        ("config.json", '{"model_type": "bloom"}', "add max_position_embeddings"),
        ("generation_config.json", "{", r"its generation_config\.json cannot be used"),
        ("tokenizer.json", '{"version": "1.0", "model": {"type": "Newer"}}', "the tokenizer of .* cannot be loaded"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(model: Path, file: str, content: str, words: str) -> None:
    (model / file).write_text(content)
    with pytest.raises(ModelError, match=words) as raised:
        read_model(settings(model))
    assert str(model) in str(raised.value) and "\n" not in str(raised.value)


def test_what_could_not_be_published_is_refused(model: Path) -> None:
    """Transformers loads this generation config and refuses to save it."""
    change(model / "generation_config.json", do_sample=False, temperature=0.6)
    read_model(settings(model))
    with pytest.raises(ModelError, match=r"could not be published .*generation_config\.json"):
        check_publishing(settings(model))


@pytest.mark.parametrize(
    "name, words",
    [
        ("arch-gemma3", "is a gemma3 model with parts for images"),
        ("arch-qwen3_5", "is a qwen3_5 model with parts for images"),
        ("newer-tokenizer", "the tokenizer of .* cannot be loaded"),
    ],
)
def test_models_from_the_field(name: str, words: str) -> None:
    folder = SHARED / "field/models" / name
    if not folder.exists():
        pytest.skip(f"{folder} is not here")
    with pytest.raises(ModelError, match=words):
        read_model(settings(folder))


def test_the_pattern_of_thoughts_is_the_tokenizers_unless_configured(model: Path) -> None:
    assert read_model(settings(model)).settings.thoughts is None
    config = json.loads((model / "tokenizer_config.json").read_text())
    change(model / "tokenizer_config.json", chat_template=config["chat_template"] + "{# <think> </think> #}")
    assert "</think>" in str(read_model(settings(model)).settings.thoughts)
    assert read_model(settings(model, thoughts="mine")).settings.thoughts == "mine"

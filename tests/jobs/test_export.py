"""`sppo-ray export`: a trained policy as a plain folder, and on a stand-in of the hub."""

import json
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from jobs import cli
from sppo_ray.playground import Playground
from sppo_ray.run_folder.publishing import publish
from sppo_ray.training.logprobs import token_logprobs
from tests.adapters import published_adapter
from tests.hub import TOKEN, Hub, application
from tests.run_folders import run_folder
from tests.sampling.mismatch import network_of
from tests.web.serving import listening


@pytest.fixture(scope="module")
def adapter_run(playground: Playground, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one iteration that trained an adapter of the playground's policy."""
    overrides = ["iterations=1", "training.adapter.rank=4", "training.adapter.alpha=8"]
    ledger = run_folder(tmp_path_factory.mktemp("lora") / "run", ["a b", "c"], overrides)
    published_adapter(str(playground.policy), ledger.iteration(1) / "policy", 1)
    return ledger.root


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub()
    with listening(application(hub)) as hub.url:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)  # HF_ENDPOINT, which is read on import
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def test_a_merged_export_gives_the_log_probs_of_the_adapter(
    adapter_run: Path, playground: Playground, tmp_path: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new" / "model"
    assert cli.main(["export", str(adapter_run), str(folder), "--merge", "--push", "me/playground"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == {"run": str(adapter_run), "iteration": 1, "folder": str(folder), "url": f"{hub.url}/me/playground"}

    adapted = PeftModel.from_pretrained(network_of(str(playground.policy)), adapter_run / "iter-1" / "policy")
    base, merged = network_of(str(playground.policy)), network_of(str(folder))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    differences = []
    for prompt in ("What follows November?", "Please say goodbye to Felix.", "What do you call a young cow?"):
        asked = [{"role": "user", "content": prompt}]
        ids = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        tokens = adapted.generate(**ids, do_sample=True, num_return_sequences=8, max_new_tokens=24)
        own, *others = (
            token_logprobs(network(input_ids=tokens).logits, tokens)[:, ids["input_ids"].shape[1] :]
            for network in (adapted, merged, base)
        )
        written = tokens[:, ids["input_ids"].shape[1] :] != tokenizer.pad_token_id
        differences.append([(other - own).abs()[written].mean().item() for other in others])
    assert all(rounding < 1e-2 < 2e-2 < adapter for rounding, adapter in differences)  # nats per token
    assert "manifest.json" not in [file.name for file in folder.iterdir()]

    card = (folder / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["library_name"] == "transformers"
    assert "| adapter | LoRA of rank 4, alpha 8, dropout 0, on all-linear |" in card and "Links to other" not in card
    assert hub.repositories["me/playground"] == {file.name: file.read_bytes() for file in folder.iterdir()}
    assert hub.objects


def test_an_adapter_is_exported_as_it_is(adapter_run: Path, playground: Playground, tmp_path: Path) -> None:
    assert cli.main(["export", str(adapter_run), str(tmp_path / "adapter")]) == 0
    names = {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    assert {file.name for file in (tmp_path / "adapter").iterdir()} == names
    for name in names - {"README.md"}:
        assert (tmp_path / "adapter" / name).read_bytes() == (adapter_run / "iter-1" / "policy" / name).read_bytes()
    assert "library_name: peft" in (tmp_path / "adapter" / "README.md").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_all_weights_are_exported_merged_or_not(
    playground: Playground, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = run_folder(tmp_path / "run", ["a b", "c"])
    weights = {
        name: parameter.detach() + 1 for name, parameter in network_of(str(playground.policy)).named_parameters()
    }
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    publish(ledger.iteration(1) / "policy", 1, shapes, torch.bfloat16, weights.items(), str(playground.policy), "")

    assert cli.main(["export", str(tmp_path / "run"), str(tmp_path / "model")]) == 2
    assert "1 of 3 iterations are finished: --iteration 1 exports the last" in capsys.readouterr().err
    for words in ([], ["--merge"]):
        folder = tmp_path / "-".join(["model", *words])
        assert cli.main(["export", str(tmp_path / "run"), str(folder), "--iteration", "1", *words]) == 0
        loaded = dict(AutoModelForCausalLM.from_pretrained(folder).named_parameters())
        assert all(loaded[name].equal(tensor) for name, tensor in weights.items())
        assert AutoTokenizer.from_pretrained(folder).chat_template


@pytest.mark.parametrize(
    "words, message",
    [
        (["{run}", "{new}", "--iteration", "4"], "has no policy of iteration 4; it has those of 1"),
        (["{run}", "{run}"], "is there already: name a new folder"),
        (["{run}/iter-1", "{new}"], "is no run folder: it holds no config.yaml"),
        (["{run}", "{new}", "--push", "me"], "give the owner and the name of a repository, such as me/playground"),
        (["{run}", "{new}", "--push", "me/it"], "the adapter's base is a folder of this machine"),
        (["{run}", "{new}", "--merge", "--push", "me/it"], "needs a token that may write there: `hf auth login`"),
        (["{run}", "{new}", "--merge", "--push", "me/it", "wrong token"], "the hub refuses it (Client error '401"),
    ],
)
def test_a_mistake_is_named_before_anything_is_written(
    adapter_run: Path,
    tmp_path: Path,
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN")
    if words[-1] == "wrong token":
        monkeypatch.setenv("HF_TOKEN", words[-1].replace(" ", "_"))
        words = words[:-1]
    assert cli.main(["export", *(word.format(run=adapter_run, new=tmp_path / "new") for word in words)]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == [] and not hub.repositories


def test_a_hub_that_fails_leaves_the_folder_and_says_how_to_send_it(
    adapter_run: Path, tmp_path: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.full = True
    folder = tmp_path / "model"
    assert cli.main(["export", str(adapter_run), str(folder), "--merge", "--push", "me/it"]) == 1
    assert f"{folder} is whole, but did not reach the hub" in (said := capsys.readouterr().err)
    assert f"`hf upload me/it {folder}`" in said
    assert network_of(str(folder)).num_parameters() > 1e5
    assert hub.repositories == {"me/it": {}}

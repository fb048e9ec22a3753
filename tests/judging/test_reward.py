"""The judge kind `reward` against a plain Transformers loop; what it says of a folder that is no reward model."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AddedToken, AutoModelForSequenceClassification, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from sppo_ray.config import JudgeSettings
from sppo_ray.errors import ModelError, UserError
from sppo_ray.judging import judge_kind, load_judge
from sppo_ray.judging.reward import RewardModel
from sppo_ray.preference import preference_probabilities
from tests.judging.reward_checkpoint import build_reward_model

PROMPTS = ["Why is the sky blue?", "Name a colour.", "مرحبا"]
RESPONSES = [
    ["Because of Rayleigh scattering.", "", "It is.", "No idea, sorry. " * 8],
    ["Red", "red", "Red", "Blue, of course!"],
    ["🎉", "x", "y" * 150, "z"],
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_reward_model(tmp_path_factory.mktemp("reward"))


def plain_scores(folder: Path) -> np.ndarray:
    """One conversation at a time, as the cards of reward models show."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    scores = []
    for prompt, responses in zip(PROMPTS, RESPONSES, strict=True):
        for response in responses:
            chat = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
            inputs = tokenizer.apply_chat_template(chat, return_tensors="pt", return_dict=True)
            with torch.no_grad():
                scores.append(model(input_ids=inputs["input_ids"]).logits[0, 0].item())
    return np.array(scores).reshape(len(PROMPTS), -1)


@pytest.mark.parametrize("kind, padding", [("llama", True), ("llama", False), ("deberta", True)])
@pytest.mark.parametrize("batch_tokens", [64, 4096])
def test_scores_are_those_of_a_plain_loop(tmp_path: Path, kind: str, padding: bool, batch_tokens: int) -> None:
    folder = build_reward_model(tmp_path, kind, padding=padding)
    expected = plain_scores(folder)
    assert np.ptp(expected) > 0.5  # or equality would mean little
    judge = load_judge({"kind": "reward", "model": str(folder), "batch_tokens": batch_tokens})
    comparisons = judge.compare(PROMPTS, RESPONSES)
    assert comparisons.dtype == np.float32 and not judge.truncated(PROMPTS, RESPONSES).any()
    np.testing.assert_allclose(2 * comparisons, expected[:, :, None] - expected[:, None, :], atol=1e-4)
    assert comparisons[1, 0, 2] == 0  # equal texts tie exactly


def test_differences_of_scores_are_the_log_odds_of_both_estimators(checkpoint: Path) -> None:
    judge = RewardModel(str(checkpoint))
    scores, comparisons = judge.scores(PROMPTS, RESPONSES), judge.compare(PROMPTS, RESPONSES)
    for estimator in ("pairwise", "pooled"):
        chances = preference_probabilities(comparisons, estimator)
        assert chances[0, 0, 1] == pytest.approx(1 / (1 + math.exp(scores[0, 1] - scores[0, 0])), abs=1e-6)


def test_each_response_is_one_row(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge, rows = RewardModel(str(checkpoint)), []
    score = judge._score
    monkeypatch.setattr(judge, "_score", lambda batch: rows.extend(batch) or score(batch))
    judge.compare(PROMPTS, RESPONSES)
    assert len(rows) == 12 - 1  # one text twice


def test_what_the_context_cannot_hold_is_cut_and_counted(tmp_path: Path) -> None:
    """A token per byte: `<|user|>`, prompt, `<|end|>`, `<|assistant|>`, response, `<|end|>` in a context of 64."""
    judge = RewardModel(str(build_reward_model(tmp_path, context=64)))
    prompts, responses = ["p" * 10, "q" * 40], [["a" * 50, "a" * 51, "b", "b"], ["c", "d", "e", "f"]]
    # Of the first prompt, response 1 takes 65 tokens: 3 of 6 pairs. The second prompt is longer than half the context.
    assert judge.truncated(prompts, responses).tolist() == [0.5, 1.0]
    assert np.array_equal(judge.scores(prompts, responses)[1], judge.scores(["q" * 32], responses[1:])[0])
    assert np.isfinite(judge.compare(prompts, responses)).all()


def test_control_tokens_in_a_text_are_blank(tmp_path: Path) -> None:
    folder = build_reward_model(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([AddedToken("\n", normalized=False)])  # not a control token, though the template has it
    tokenizer.chat_template += "\n"
    tokenizer.save_pretrained(folder)
    judge = RewardModel(str(folder))
    assert judge._control.sub(" ", "a\nb<|user|>c") == "a\nb c"
    forged, blank = (judge.scores(["a"], [[f"x{token}y"]]) for token in ("<|end|>", " "))
    assert np.array_equal(forged, blank)


def test_bfloat16_is_near_float32(checkpoint: Path) -> None:
    full, half = (
        RewardModel(str(checkpoint), dtype=dtype).scores(PROMPTS, RESPONSES) for dtype in ("float32", "bfloat16")
    )
    assert 0 < np.abs(full - half).max() < 0.1 * np.ptp(full)


def changed(folder: Path, name: str, **settings: object) -> Path:
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return folder


def no_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def no_answers(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")


def refusing(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ raise_exception('one turn only') }}")


def a_policy(folder: Path) -> None:
    LlamaForCausalLM(
        LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    ).save_pretrained(folder)


@pytest.mark.parametrize(
    "spoil, words",
    [
        (no_template, "no chat template"),
        (no_config, "config.json cannot be used"),
        (no_tokenizer, "holds no tokenizer"),
        (no_answers, "chat template leaves out the answer"),
        (refusing, "chat template refuses an answer .*one turn only"),
        (a_policy, "is a LlamaForCausalLM, not a sequence classifier"),
    ],
)
def test_a_folder_that_is_no_reward_model_is_refused_by_the_check(tmp_path: Path, spoil, words: str) -> None:
    build_reward_model(tmp_path)
    spoil(tmp_path)
    with pytest.raises(ModelError, match=words):
        judge_kind(JudgeSettings(kind="reward", model=str(tmp_path))).check()


def test_several_labels_are_refused_by_the_check(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has 3 labels; a reward model has one"):
        judge_kind(JudgeSettings(kind="reward", model=str(build_reward_model(tmp_path, labels=3)))).check()


def test_a_missing_folder_is_named_with_its_key() -> None:
    with pytest.raises(UserError, match=r"/nowhere: no such folder: correct judge\.model"):
        judge_kind(JudgeSettings(kind="reward", model="/nowhere")).check()


def test_missing_weights_are_named(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = build_reward_model(tmp_path) / "model.safetensors"
    weights = load_file(file)
    del weights["score.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"its weights lack score\.weight"):
        RewardModel(str(tmp_path))


def test_what_a_reward_model_takes_of_a_device(checkpoint: Path) -> None:
    """By hand: 2 layers of 4 x 32 x 32 + 3 x 32 x 64 + 2 x 32 weights; 260 embeddings and a norm; no matrix for words."""
    layer = 4 * 32 * 32 + 3 * 32 * 64 + 2 * 32
    settings = JudgeSettings(kind="reward", model=str(checkpoint), batch_tokens=1000)
    demand = judge_kind(settings).demand(prompt=200, response=100)
    assert (demand.each, demand.tokens, demand.operations) == ("response", 256, 2 * 2 * layer)
    assert demand.memory == {"weights": 2 * (2 * layer + 260 * 32 + 32), "activations": 2 * 1000 * (6 * 32 + 3 * 64)}

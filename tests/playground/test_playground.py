"""The small world: its rule by hand, its prompts, its tokenizers, and the folders that it builds.

The folders are those of the standard playground, built once and cached.
"""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sppo_ray.errors import RunFailed
from sppo_ray.judging import PairRM
from sppo_ray.judging.reward import RewardModel
from sppo_ray.playground import (
    Playground,
    PlaygroundSettings,
    build,
    build_reward,
    builder,
    rule_score,
    rule_scores,
)
from sppo_ray.playground.world import PHRASINGS, draw_prompts, tasks

OPPOSITE = "What is the opposite of hot?"
TEXTS = [
    "Grüße, 你好, Привет 👩‍👩‍👧 🤖",
    "مرحبا بالعالم, שלום עולם",
    "def f(x):\n\treturn {'a': x ** 2}  # None\r\n",
    "  two  spaces, a nul \x00 and a non-breaking\u00a0one  ",
]


@pytest.mark.parametrize(
    ("prompt", "answer", "score"),
    [
        (OPPOSITE, "The opposite of hot is cold. Hope this helps.", 1.0),
        (OPPOSITE, "The opposite of hot is cold.", 0.9),
        (OPPOSITE, "Cold.", 0.9),
        (OPPOSITE, "Sure! The opposite of hot is cold. Now leave me alone.", 0.8),
        (OPPOSITE, "Um, well. The opposite of hot is cold.", 0.75),
        (OPPOSITE, "The opposite of hot is cold. The opposite of hot is cold.", 0.75),
        (OPPOSITE, "The opposite of hot is cold", 0.75),
        (OPPOSITE, "The opposite of hot is big. Have a nice day.", 0.5),
        (OPPOSITE, "The opposite of hot is cold. The opposite of hot is wet.", 0.4),
        (OPPOSITE, "The opposite of hot is cold or wet.", 0.4),
        (OPPOSITE, "Hope this helps.", 0.5),
        (OPPOSITE, "Hope this helps. Hope this helps. Hope this", 0.2),
        (OPPOSITE, "Um, well. Big big! What a silly question.", 0.0),
        (OPPOSITE, "", 0.0),
        (OPPOSITE, " ...", 0.0),
        ("Name three fruits.", "Here are three fruits: apple, pear and fig.", 0.9),
        ("Name three fruits.", "Here are three fruits: apple, pear and apple.", 0.4),
        ("Name three fruits.", "Here are three fruits: apple, pear and hammer.", 0.4),
        ("Name three fruits.", "Here are three fruits: apple and pear.", 0.4),
        ("What follows December?", "After December comes January.", 0.9),
        ("Say hello to Anna.", "Hello, Anna! Happy to help.", 1.0),
        ("Say hello to Anna.", "Hello, Ben! Happy to help.", 0.5),
        ("Say hello to Anna.", "Goodbye, Anna!", 0.4),
    ],
)
def test_rule_by_hand(prompt: str, answer: str, score: float) -> None:
    assert rule_score(prompt, answer) == score


def test_rule_knows_nothing_outside_the_world() -> None:
    assert rule_score("Write a poem about the sea.", "The sea is blue.") is None


def test_prompts_are_disjoint_and_the_same_each_time() -> None:
    lists = draw_prompts(0, [220, 220, 220, 165])
    assert [len(prompts) for prompts in lists] == [220, 220, 220, 165]
    assert len({prompt for prompts in lists for prompt in prompts}) == 825
    assert lists == draw_prompts(0, [220, 220, 220, 165]) != draw_prompts(1, [220, 220, 220, 165])
    assert {tasks()[prompt].kind for prompt in lists[3]} == set(PHRASINGS)


def test_too_many_prompts_are_refused() -> None:
    with pytest.raises(ValueError, match="ask for fewer"):
        draw_prompts(0, [len(tasks()) + 1])


def read_rows(file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def test_prompt_files(playground: Playground) -> None:
    rows = [row for file in sorted(playground.prompts.iterdir()) for row in read_rows(file)]
    assert sorted(file.name for file in playground.prompts.iterdir()) == [
        "held_out.jsonl",
        "train_iteration_1.jsonl",
        "train_iteration_2.jsonl",
        "train_iteration_3.jsonl",
    ]
    assert len({row["prompt_id"] for row in rows}) == len({row["prompt"] for row in rows}) == 825
    assert all(rule_score(row["prompt"], "x") is not None for row in rows)


@pytest.mark.parametrize("text", [*TEXTS, "<bos><start_of_turn>user\n<end_of_turn>", "[CLS] [SEP] <|endoftext|>"])
def test_any_text_survives_the_tokenizers(playground: Playground, text: str) -> None:
    for folder in (playground.policy, playground.judge / "base"):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        ids = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        assert tokenizer.decode(ids) == text
        assert not set(ids) & set(tokenizer.all_special_ids)


def test_chat_template_is_gemmas(playground: Playground) -> None:
    tokenizer = AutoTokenizer.from_pretrained(playground.policy)
    chat = [{"role": "user", "content": " Hi. "}, {"role": "assistant", "content": "Hello!"}]
    text = tokenizer.apply_chat_template([*chat, chat[0]], add_generation_prompt=True, tokenize=False)
    turn = "<start_of_turn>user\nHi.<end_of_turn>\n"
    assert text == f"<bos>{turn}<start_of_turn>model\nHello!<end_of_turn>\n{turn}<start_of_turn>model\n"


def test_policy_is_gemma2_and_stops_at_the_end_of_its_turn(playground: Playground) -> None:
    tokenizer = AutoTokenizer.from_pretrained(playground.policy)
    model = AutoModelForCausalLM.from_pretrained(playground.policy, attn_implementation="eager")
    assert type(model).__name__ == "Gemma2ForCausalLM" and model.dtype == torch.bfloat16
    assert model.config.final_logit_softcapping and model.config.attn_logit_softcapping
    assert "sliding_attention" in model.config.layer_types and model.config.max_position_embeddings >= 2048
    end_of_turn = tokenizer.convert_tokens_to_ids("<end_of_turn>")
    assert model.generation_config.eos_token_id == [tokenizer.eos_token_id, end_of_turn]
    chat = [{"role": "user", "content": OPPOSITE}]
    inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = model.generate(**inputs, max_new_tokens=40, do_sample=False)
    assert output[0, -1] == end_of_turn
    answer = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert "opposite of hot is" in answer


def test_policy_reads_a_long_foreign_prompt(playground: Playground) -> None:
    tokenizer = AutoTokenizer.from_pretrained(playground.policy)
    model = AutoModelForCausalLM.from_pretrained(playground.policy, attn_implementation="eager")
    ids = tokenizer("漢" * 633, return_tensors="pt")["input_ids"]  # 1,899 bytes
    assert 633 < ids.shape[1] < model.config.max_position_embeddings
    with torch.no_grad():
        assert torch.isfinite(model(ids).logits).all()


def test_judge_prefers_right_and_polite_answers(playground: Playground) -> None:
    rows = read_rows(playground.prompts / "held_out.jsonl")
    prompts = [row["prompt"] for row in rows if tasks()[row["prompt"]].kind == "opposite"]
    candidates = []
    for prompt in prompts:
        subject, (answer,) = tasks()[prompt].subject, tasks()[prompt].members
        wrong = "early" if "early" not in (subject, answer) else "sharp"
        right = f"The opposite of {subject} is {answer}."
        candidates.append([f"{right} Hope this helps.", f"The opposite of {subject} is {wrong}. Now leave me alone."])
    comparisons = PairRM(playground.judge).compare(prompts, candidates)
    assert (comparisons[:, 0, 1] > comparisons[:, 1, 0]).mean() > 0.9


def test_the_rule_judges() -> None:
    """Rule scores of 0.9 and 0.4, on a scale of 6."""
    assert rule_scores(OPPOSITE, ["The opposite of hot is cold.", "It is early."]) == pytest.approx([5.4, 2.4])
    assert rule_scores("Who are you?", ["me", "you"]) == [0, 0]


def test_judge_scores_any_text(playground: Playground) -> None:
    comparisons = PairRM(playground.judge).compare(["漢" * 3000], [["", TEXTS[0] * 200, TEXTS[1]]])
    assert comparisons.shape == (1, 3, 3) and abs(comparisons).max() < 1e3
    assert comparisons[0].diagonal().tolist() == [0, 0, 0]


TINY = PlaygroundSettings(
    prompts=14, held_out=7, policy_steps=1, word_steps=1, replaced_steps=1, pair_steps=1, reward_steps=1
)


def test_a_playground_is_built_once_and_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    first = build(TINY, tmp_path / "cache", lines.append)
    assert any(line.startswith("playground: policy step 1/1") for line in lines)
    assert [file.name for file in (tmp_path / "cache" / "playground").iterdir() if ".tmp" in file.name] == []

    reward = build_reward(first, TINY, lines.append)
    assert any(line.startswith("playground: reward step 1/1") for line in lines)
    scores = RewardModel(str(reward)).scores([OPPOSITE], [["The opposite of hot is cold.", "It is early."]])
    assert scores.shape == (1, 2) and scores[0, 0] != scores[0, 1]

    for training in ("_make", "_run_in_parallel"):
        monkeypatch.setattr(builder, training, lambda *_: pytest.fail("built twice"))
    assert build(TINY, tmp_path / "cache") == first
    assert build_reward(first, TINY) == reward

    (tmp_path / "cache").rename(tmp_path / "moved")
    monkeypatch.setenv("SPPO_RAY_CACHE", str(tmp_path / "moved"))
    moved = build(TINY)
    assert moved.judge == tmp_path / "moved" / "playground" / first.judge.parent.name / "judge"
    assert json.loads((moved.judge / "config.json").read_text())["model_name"] == str(moved.judge / "base")


def test_the_loser_of_two_builders_uses_the_winners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "made"

    def other_wins(*_: object) -> None:
        folder.mkdir()
        (folder / "theirs").touch()

    monkeypatch.setattr(builder, "_run_in_parallel", other_wins)
    builder._make(TINY, folder, print)
    assert [file.name for file in folder.iterdir()] == ["theirs"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_failed_training_is_named() -> None:
    with pytest.raises(RunFailed, match=r"(?s)the playground's nothing could not be trained:.*No module named"):
        builder._run_in_parallel({"nothing": []}, print)

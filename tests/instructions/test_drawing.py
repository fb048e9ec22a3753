"""The prompts: the same each time, training and held-out ones apart in instructions, kinds and combinations."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sppo_ray.instructions import mean_scores, prompt_folder
from sppo_ray.instructions.constraints import HELD_OUT, HELD_OUT_TOGETHER, TRAINED, asked
from sppo_ray.instructions.content import instruction_of, instructions
from tests.run_folders import candidates


def read(folder: Path, name: str) -> list[str]:
    return [json.loads(line)["prompt"] for line in (folder / f"{name}.jsonl").read_text("utf-8").splitlines()]


def kinds(prompt: str) -> tuple[str, ...]:
    return tuple(constraint.name for constraint, _ in asked(prompt))


def test_prompts_are_the_same_each_time_and_apart(tmp_path: Path) -> None:
    folder = prompt_folder(tmp_path)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert prompt_folder(tmp_path) == folder
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    parts = [read(folder, f"train_iteration_{number}") for number in (1, 2, 3)]
    held_out = read(folder, "held_out")
    assert [len(part) for part in (*parts, held_out)] == [140, 140, 140, 104]
    assert len({prompt for part in parts for prompt in part}) == 420
    assert {instruction_of(prompt) for part in parts for prompt in part} <= instructions("training").keys()
    assert {instruction_of(prompt) for prompt in held_out} <= instructions("held_out").keys()
    trained = {kinds(prompt) for part in parts for prompt in part}
    untrained = {(one.name,) for one in HELD_OUT} | set(HELD_OUT_TOGETHER)
    assert not trained & untrained
    assert {kinds(prompt) for prompt in held_out} == {(one.name,) for one in TRAINED} | untrained


def test_scores_by_group_of_held_out_prompts() -> None:
    """Two answers under `ends`, one of them right; one right of one under a kind, and a half of one under a combination, held out."""
    ends = candidates(["They are happy animals there. DONE", "They are happy animals there."], prompt="ends-0")
    ends = replace(ends, prompt="Why do cats purr? End your answer with the word DONE.")
    capitals = replace(candidates(["BE GOOD"], prompt="capitals-1"), prompt="Hi. Write everything in capital letters.")
    both = replace(
        candidates(["be good"], prompt="lowercase+ends-0"),
        prompt="Hi. Write everything in lowercase letters. End your answer with the word END.",
    )
    found = mean_scores([ends, capitals, both])
    # Of four answers the two to the question about cats are fluent and have one of two words of its topic.
    assert found.pop("content") == pytest.approx((3 / 4 + 3 / 4) / 4)
    assert found == {
        "ends": 0.5,
        "capitals": 1.0,
        "lowercase+ends": 0.5,
        "all kinds trained": 0.5,
        "all kinds held out": 1.0,
        "all combinations held out": 0.5,
        "all": 0.625,
        "degenerate share": 0.5,  # "BE GOOD" and "be good"
        "tokens": 3.75,  # 6, 5, 2 and 2 words
    }

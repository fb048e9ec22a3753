"""The prompts: the same each time, training and held-out ones apart in instructions, kinds and combinations."""

import json
from pathlib import Path

from sppo_ray.instructions import prompt_folder
from sppo_ray.instructions.constraints import HELD_OUT, HELD_OUT_TOGETHER, TRAINED, asked
from sppo_ray.instructions.content import instruction_of, instructions


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

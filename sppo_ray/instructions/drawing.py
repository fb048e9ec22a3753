"""The prompts: instructions with one or two constraints, in a file for each iteration and one of held-out prompts.

In: nothing. Out: a folder of .jsonl files in the user's cache, always with the same prompts.
Training and held-out prompts share no instruction. Some kinds and combinations of constraints are held out altogether.
"""

import hashlib
import json
import random
import tempfile
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

from sppo_ray.instructions.constraints import HELD_OUT, HELD_OUT_TOGETHER, TRAINED, Constraint
from sppo_ray.instructions.content import instructions
from sppo_ray.playground import cache_folder

ITERATIONS = 3
PROMPTS = 140  # per iteration
TWO = 0.25  # share of training prompts with two constraints
EACH = 8, 4  # held-out prompts per kind that is trained, and per kind or combination that is not
NEVER = (  # nothing can meet both, or one gives the other away
    ("at_most", "at_least"), ("ends", "quoted"), ("begins", "quoted"), ("begins", "bullets"), ("begins", "lowercase"),
)  # fmt: skip
APART = {frozenset(pair) for pair in (*NEVER, *HELD_OUT_TOGETHER)}


def prompt_folder(cache: Path | None = None) -> Path:
    """The folder of the prompts: train_iteration_1.jsonl to _3 and held_out.jsonl."""
    files = {f"train_iteration_{number + 1}": rows for number, rows in enumerate(_training())}
    files["held_out"] = list(_held_out())
    texts = {name: "".join(json.dumps(row) + "\n" for row in rows) for name, rows in files.items()}
    digest = hashlib.sha256("".join(texts.values()).encode()).hexdigest()[:16]
    folder = cache_folder("instructions", cache) / digest
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=folder, suffix=".tmp", delete=False) as file:
            file.write(text)
        Path(file.name).replace(folder / f"{name}.jsonl")
    return folder


def _training() -> list[list[dict[str, str]]]:
    rng = random.Random(0)
    pairs = [pair for pair in combinations(TRAINED, 2) if frozenset(one.name for one in pair) not in APART]
    seen: set[str] = set()
    parts = []
    for iteration in range(1, ITERATIONS + 1):
        asked, rows = rng.sample(sorted(instructions("training")), PROMPTS), []
        for place, instruction in enumerate(asked):
            text = instruction
            while text == instruction or text in seen:
                chosen = rng.choice(pairs) if rng.random() < TWO else (rng.choice(TRAINED),)
                text = _prompt(instruction, chosen, rng)
            seen.add(text)
            rows.append({"prompt_id": f"training-{iteration}-{place:03d}", "prompt": text})
        parts.append(rows)
    return parts


def _held_out() -> Iterator[dict[str, str]]:
    rng = random.Random(0)
    by_name = {one.name: one for one in TRAINED}
    several, few = EACH
    groups: list[tuple[str, tuple[Constraint, ...], int]] = [(one.name, (one,), several) for one in TRAINED]
    groups += [(one.name, (one,), few) for one in HELD_OUT]
    groups += [("+".join(names), tuple(by_name[name] for name in names), few) for names in HELD_OUT_TOGETHER]
    for name, chosen, count in groups:
        for place, instruction in enumerate(rng.sample(sorted(instructions("held_out")), count)):
            yield {"prompt_id": f"{name}-{place}", "prompt": _prompt(instruction, chosen, rng)}


def _prompt(instruction: str, chosen: tuple[Constraint, ...], rng: random.Random) -> str:
    return " ".join([instruction, *(one.phrase.replace("{value}", rng.choice(one.values)) for one in chosen)])

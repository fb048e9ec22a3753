"""What the judge is taught from: right answers, damaged answers, pairs.

In: a prompt of the world and a source of chance. Out: texts with the labels that the rule gives them.
"""

import random
import re
from dataclasses import dataclass

from sppo_ray.playground.answers import core, mixed_answer, rule_score, styled
from sppo_ray.playground.world import split_words, tasks


@dataclass(frozen=True)
class Replaced:
    prompt: str
    original: str
    answer: str
    right: bool


@dataclass(frozen=True)
class AnswerPair:
    prompt: str
    left: str
    right: str
    left_score: float
    right_score: float


def corpus(prompts: list[str], chance: random.Random) -> list[str]:
    return [f"{prompt} {mixed_answer(tasks()[prompt], chance)}" for prompt in prompts for _ in range(4)]


def content_words(prompt: str, answer: str) -> list[str]:
    """The words of an answer that make it right or wrong."""
    task = tasks()[prompt]
    return [word for word in split_words(answer) if word in task.options and word != task.subject.lower()]


def right_answer(prompt: str, chance: random.Random) -> str:
    return core(tasks()[prompt], True, chance)


def replaced_answer(prompt: str, chance: random.Random) -> Replaced:
    """A right answer, and the same or a copy with one content word replaced by another of its kind."""
    task = tasks()[prompt]
    original = core(task, True, chance)
    if chance.random() < 0.4:
        return Replaced(prompt, original, original, True)
    said = content_words(prompt, original)
    old = chance.choice(said)
    new = chance.choice(sorted(task.options - set(said)))
    answer = re.sub(rf"\b{old}\b", new, original)
    answer = re.sub(rf"\b{old.capitalize()}\b", new.capitalize(), answer)
    return Replaced(prompt, original, answer, (rule_score(prompt, answer) or 0.0) >= 0.5)


def pair(prompt: str, chance: random.Random) -> AnswerPair:
    """Two answers: equal in style with a right and a wrong core, or independent and now and then garbled."""
    task = tasks()[prompt]
    if chance.random() < 0.45:
        seed = chance.random()
        texts = [styled(core(task, right, chance), random.Random(seed)) for right in (True, False)]
        chance.shuffle(texts)
    else:
        texts = [garbled(mixed_answer(task, chance), chance) for _ in range(2)]
    left, right = (rule_score(prompt, text) or 0.0 for text in texts)
    return AnswerPair(prompt, texts[0], texts[1], left, right)


def garbled(answer: str, chance: random.Random) -> str:
    """One answer in four with a word lost, doubled, or the end cut off, as a sampler's slips are."""
    parts = answer.split()
    if chance.random() < 0.75 or len(parts) < 2:
        return answer
    place, slip = chance.randrange(1, len(parts)), chance.randrange(3)
    kept = [parts[:place] + parts[place + 1 :], parts[:place] + parts[place - 1 :], parts[:place]][slip]
    return " ".join(kept)

"""Training data of the judge: right answers, corrupted answers, pairs.

In: a prompt of the playground and a random number generator. Out: texts labelled by the rule.
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


def corpus(prompts: list[str], rng: random.Random) -> list[str]:
    return [f"{prompt} {mixed_answer(tasks()[prompt], rng)}" for prompt in prompts for _ in range(4)]


def content_words(prompt: str, answer: str) -> list[str]:
    """The words of an answer that make it right or wrong."""
    task = tasks()[prompt]
    return [word for word in split_words(answer) if word in task.options and word != task.subject.lower()]


def right_answer(prompt: str, rng: random.Random) -> str:
    return core(tasks()[prompt], True, rng)


def replaced_answer(prompt: str, rng: random.Random) -> Replaced:
    """A right answer, and the same or a copy with one content word replaced by another of its kind."""
    task = tasks()[prompt]
    original = core(task, True, rng)
    if rng.random() < 0.4:
        return Replaced(prompt, original, original, True)
    said = content_words(prompt, original)
    old = rng.choice(said)
    new = rng.choice(sorted(task.options - set(said)))
    answer = re.sub(rf"\b{old}\b", new, original)
    answer = re.sub(rf"\b{old.capitalize()}\b", new.capitalize(), answer)
    return Replaced(prompt, original, answer, (rule_score(prompt, answer) or 0.0) >= 0.5)


def pair(prompt: str, rng: random.Random) -> AnswerPair:
    """Two answers: one right and one wrong in the same style, or two independent ones, sometimes garbled."""
    task = tasks()[prompt]
    if rng.random() < 0.45:
        seed = rng.random()
        texts = [styled(core(task, right, rng), random.Random(seed)) for right in (True, False)]
        rng.shuffle(texts)
    else:
        texts = [garbled(mixed_answer(task, rng), rng) for _ in range(2)]
    left, right = (rule_score(prompt, text) or 0.0 for text in texts)
    return AnswerPair(prompt, texts[0], texts[1], left, right)


def garbled(answer: str, rng: random.Random) -> str:
    """Drop or repeat a word or cut off the end of one answer in four, as a sampling error might."""
    parts = answer.split()
    if rng.random() < 0.75 or len(parts) < 2:
        return answer
    place, slip = rng.randrange(1, len(parts)), rng.randrange(3)
    kept = [parts[:place] + parts[place + 1 :], parts[:place] + parts[place - 1 :], parts[:place]][slip]
    return " ".join(kept)

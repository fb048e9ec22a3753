"""Sample answers of mixed quality, and the rule that scores any answer.

In: an instruction's `Task`. Out: answers with a right or wrong core and independent style flaws; scores in [0, 1].
"""

import random
import re
from itertools import pairwise

from sppo_ray.playground import words
from sppo_ray.playground.world import Task, split_words, tasks, with_article

OPENERS = ("Sure!", "Of course.")
FILLERS = ("Um, well.", "Hmm, let me see.")
POLITE = ("Hope this helps.", "Happy to help.", "Have a nice day.")
RUDE = ("Now leave me alone.", "What a silly question.")

RIGHT, OPENED, FILLED, TWICE, POLITELY, RUDELY = 0.55, 0.15, 0.35, 0.3, 0.35, 0.25

SCORE_SCALE = 6.0  # logits between rule scores 0 and 1


def rule_score(prompt: str, answer: str) -> float | None:
    """0.5 for a right core, 0.2 for a polite closing (0.1 for none, 0 for a rude one), 0.15 each for no repetition and fluency.

    Right: apart from stock phrases, there is a sentence, and every one answers the instruction.
    Fluent: no filler, and the last sentence is complete.  None for a prompt outside the playground.
    """
    task = tasks().get(prompt)
    if task is None:
        return None
    sentences = re.findall(r"[^.!?]*\w[^.!?]*[.!?]*", answer)
    if not sentences:
        return 0.0
    spoken = [" ".join(split_words(sentence)) for sentence in sentences]
    core = [sentence for sentence in spoken if sentence not in STYLE]
    right = bool(core) and all(task.answered_by(sentence) for sentence in core)
    rude, polite = (any(sentence in group for sentence in spoken) for group in (RUDE_SPOKEN, POLITE_SPOKEN))
    manners = 0.0 if rude else 0.2 if polite else 0.1
    stutters = any(first == second for first, second in pairwise(split_words(answer)))
    repeats = stutters or len(set(spoken)) < len(spoken)
    fluent = not any(part in FILLER_SPOKEN for part in spoken) and answer.rstrip()[-1] in ".!?"
    return round(0.5 * right + manners + 0.15 * (not repeats) + 0.15 * fluent, 2)


def rule_scores(prompt: str, answers: list[str]) -> list[float]:
    """The rule as a Python judge: one score per answer, all equal for a prompt outside the world."""
    return [SCORE_SCALE * (rule_score(prompt, answer) or 0.0) for answer in answers]


def _spoken(group: tuple[str, ...]) -> frozenset[str]:
    return frozenset(" ".join(split_words(phrase)) for phrase in group)


RUDE_SPOKEN, POLITE_SPOKEN, FILLER_SPOKEN = _spoken(RUDE), _spoken(POLITE), _spoken(FILLERS)
STYLE = RUDE_SPOKEN | POLITE_SPOKEN | FILLER_SPOKEN | _spoken(OPENERS)


def mixed_answer(task: Task, rng: random.Random) -> str:
    """One answer with a random core and random style."""
    return styled(core(task, rng.random() < RIGHT, rng), rng)


def styled(core_text: str, rng: random.Random) -> str:
    parts = []
    if rng.random() < FILLED:
        parts.append(rng.choice(FILLERS))
    elif rng.random() < OPENED:
        parts.append(rng.choice(OPENERS))
    parts += [core_text] * (2 if rng.random() < TWICE else 1)
    manners = rng.random()
    if manners < POLITELY:
        parts.append(rng.choice(POLITE))
    elif manners < POLITELY + RUDELY:
        parts.append(rng.choice(RUDE))
    return " ".join(parts)


def core(task: Task, right: bool, rng: random.Random) -> str:
    """The sentence that answers the instruction, rightly or wrongly."""
    if task.kind == "list":
        return _list(task, right, rng)
    if task.kind == "greeting":
        greeting, name = task.members
        if not right and rng.random() < 0.5:
            greeting = _other(words.GREETINGS, greeting, rng)
        elif not right:
            name = _other(words.NAMES, name, rng)
        return f"{greeting.capitalize()}, {name}!"
    answer = task.members[0] if right else _other(_answers(task), task.members[0], rng, task.subject)
    sentence = {
        "opposite": f"the opposite of {task.subject} is {answer}.",
        "colour": f"{task.subject} is {answer}.",
        "sound": f"{with_article(task.subject)} {answer}.",
        "young": f"a young {task.subject} is called {with_article(answer)}.",
        "next": f"after {task.subject} comes {answer}.",
    }[task.kind]
    return sentence[0].upper() + sentence[1:]


def _list(task: Task, right: bool, rng: random.Random) -> str:
    count = task.count
    if not right and rng.random() < 0.5:
        count += rng.choice((-1, 1))
    items = rng.sample(task.members, count)
    if not right and count == task.count:
        items[rng.randrange(count)] = _other(sorted(task.options), "", rng, *task.members)
    listed = f"{', '.join(items[:-1])} and {items[-1]}" if len(items) > 1 else items[0]
    return f"Here are {task.number} {task.subject}: {listed}."


def _answers(task: Task) -> tuple[str, ...]:
    if task.kind == "next":
        return tuple(words.DAYS if task.subject in words.DAYS else words.MONTHS)
    return tuple(sorted(task.options))


def _other(choices: tuple[str, ...] | list[str], right: str, rng: random.Random, *excluded: str) -> str:
    return rng.choice([choice for choice in choices if choice != right and choice not in excluded])

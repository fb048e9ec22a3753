"""The playground's instructions: seven kinds, with six phrasings per fact.

In: the word tables. Out: `Task`s by prompt text, and each iteration's prompts, drawn from a seed.
"""

import random
import re
from dataclasses import dataclass
from functools import cache

from sppo_ray.playground import words

PHRASINGS = {
    "opposite": (
        "What is the opposite of {0}?",
        "Give me the opposite of {0}.",
        "Which word means the opposite of {0}?",
        "Tell me the opposite of the word {0}.",
        "Please name the opposite of {0}.",
        "I need the opposite of {0}.",
    ),
    "colour": (
        "What colour is {0}?",
        "Tell me the colour of {0}.",
        "Which colour does {0} have?",
        "Please name the colour of {0}.",
        "What is the usual colour of {0}?",
        "I want to paint {0}. Which colour do I need?",
    ),
    "sound": (
        "What sound does {1} make?",
        "How does {1} sound?",
        "Tell me what {1} does when it makes a sound.",
        "What do you hear when {1} calls?",
        "Which sound is made by {1}?",
        "Please describe the sound of {1}.",
    ),
    "young": (
        "What is a young {0} called?",
        "What do you call a young {0}?",
        "Give me the word for a young {0}.",
        "How do people call the baby of {1}?",
        "Tell me the name of a young {0}.",
        "Please name the young of {1}.",
    ),
    "next": (
        "What comes after {0}?",
        "What follows {0}?",
        "Tell me what comes right after {0}.",
        "Please say what follows after {0}.",
        "{0} is over. What comes next?",
        "Which one comes next after {0}?",
    ),
    "list": (
        "Name {1} {0}.",
        "List {1} {0}.",
        "Give me {1} {0}.",
        "Please write down {1} {0}.",
        "I need {1} {0}.",
        "Can you think of {1} {0}?",
    ),
    "greeting": (
        "Say {1} to {0}.",
        "Please say {1} to {0}.",
        "How do I say {1} to {0}?",
        "Write {1} to my friend {0}.",
        "{0} is here. Say {1}.",
        "Give {0} a short {1}.",
    ),
}


@dataclass(frozen=True)
class Task:
    """One instruction. A sentence answers it if, of all `options`, it names exactly `count` `members`, each once.

    subject: words of the instruction that an answer may repeat.
    """

    prompt: str
    kind: str
    subject: str
    members: tuple[str, ...]
    options: frozenset[str]
    count: int = 1
    number: str = ""

    def answered_by(self, sentence: str) -> bool:
        said = [word for word in split_words(sentence) if word in self.options and word != self.subject.lower()]
        return len(said) == self.count == len(set(said)) and set(said) <= {member.lower() for member in self.members}


def split_words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def with_article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


@cache
def tasks() -> dict[str, Task]:
    """Every instruction, by its text."""
    made: list[Task] = []
    after = {name: row[(place + 1) % len(row)] for row in (words.DAYS, words.MONTHS) for place, name in enumerate(row)}
    for kind, facts in (
        ("opposite", words.OPPOSITES),
        ("colour", words.COLOURS),
        ("sound", words.SOUNDS),
        ("young", words.YOUNG),
        ("next", after),
    ):
        options = frozenset(word.lower() for word in facts.values())
        for subject, answer in facts.items():
            prompts = [phrase.format(subject, with_article(subject)) for phrase in PHRASINGS[kind]]
            made += [Task(prompt, kind, subject, (answer,), options) for prompt in prompts]
    options = frozenset(member for members in words.KINDS.values() for member in members)
    for name, members in words.KINDS.items():
        for number, count in words.NUMBERS.items():
            for phrase in PHRASINGS["list"]:
                prompt = phrase.format(name, number)
                made.append(Task(prompt, "list", name, tuple(members), options, count, number))
    options = frozenset(word.lower() for word in (*words.NAMES, *words.GREETINGS))
    for name in words.NAMES:
        for greeting in words.GREETINGS:
            for phrase in PHRASINGS["greeting"]:
                prompt = phrase.format(name, greeting)
                made.append(Task(prompt, "greeting", "", (greeting, name), options, count=2))
    return {task.prompt: task for task in made}


def draw_prompts(seed: int, sizes: list[int]) -> list[list[str]]:
    """Disjoint lists of prompts of the given sizes, each with about equally many of every kind."""
    rng = random.Random(seed)
    by_kind = {kind: [task.prompt for task in tasks().values() if task.kind == kind] for kind in PHRASINGS}
    for prompts in by_kind.values():
        rng.shuffle(prompts)
    lists = []
    for size in sizes:
        drawn: list[str] = []
        while len(drawn) < size:
            left = [kind for kind in PHRASINGS if by_kind[kind]]
            if not left:
                raise ValueError(f"the playground has {len(tasks())} prompts, fewer than {sum(sizes)}: ask for fewer")
            rng.shuffle(left)
            drawn += [by_kind[kind].pop() for kind in left[: size - len(drawn)]]
        lists.append(drawn)
    return lists

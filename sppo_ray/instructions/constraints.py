"""Constraints on an answer that a program can check, each scored from 0 to 1.

In: an answer and the value of a constraint, such as 20 for at most 20 words. Out: how far the answer meets it.
An answer without words scores 0, whatever the constraint.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")
COMMAS = ",،、，"
QUOTES = '"“”'
TAIL = " \t\n.!?" + QUOTES  # may follow the last word


def words(text: str) -> list[str]:
    return WORD.findall(text)


@dataclass(frozen=True)
class Constraint:
    """phrase: how a prompt asks for it, with {value} for one of the values.  check: (answer, value) to a score."""

    name: str
    phrase: str
    check: Callable[[str, str], float]
    values: tuple[str, ...] = ("",)

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(re.escape(self.phrase).replace(re.escape("{value}"), "(.+?)"))

    def score(self, answer: str, value: str) -> float:
        return self.check(answer.strip(), value) if words(answer) else 0.0


def at_most(answer: str, value: str) -> float:
    """1 up to n words, then down to 0 at twice as many."""
    return min(1.0, max(0.0, 2 - len(words(answer)) / int(value)))


def at_least(answer: str, value: str) -> float:
    """A word said again and again counts twice at most."""
    said = [word.lower() for word in words(answer)]
    return min(1.0, min(len(said), 2 * len(set(said))) / int(value))


def no_commas(answer: str, _: str) -> float:
    return 1 / (1 + sum(answer.count(comma) for comma in COMMAS))


def lowercase(answer: str, _: str) -> float:
    """1 / (1 + words with a capital letter); there must be lowercase letters."""
    return any(map(str.islower, answer)) / (1 + sum(word != word.lower() for word in words(answer)))


def capitals(answer: str, _: str) -> float:
    """Share of the letters that are capitals."""
    cased = [letter for letter in answer if letter.lower() != letter.upper()]
    return sum(map(str.isupper, cased)) / len(cased) if cased else 0.0


def ends(answer: str, value: str) -> float:
    """Half where the word is written in other letters or also stands elsewhere; something must go before it."""
    said = words(answer.rstrip(TAIL))
    if len(said) < 2 or said[-1].lower() != value.lower():
        return 0.0
    return 1.0 if said[-1] == value and said.count(value) == 1 else 0.5


def begins(answer: str, value: str) -> float:
    """Half where it is written in other letters; something must follow."""
    if not answer.lower().startswith(value.lower()) or not words(answer[len(value) :]):
        return 0.0
    return 1.0 if answer.startswith(value) else 0.5


def quoted(answer: str, _: str) -> float:
    """Half for each end; half of that where there are quotation marks in between, for then it is not the whole answer."""
    around = (answer[0] in QUOTES) + (len(answer) > 1 and answer[-1] in QUOTES)
    inside = any(mark in answer[1:-1] for mark in QUOTES)
    return around / 2 / (1 + inside)


def bullets(answer: str, value: str) -> float:
    """Share of the lines that are different bullets, less for a number of them other than the one asked for."""
    lines = [line for line in answer.splitlines() if line.strip()]
    found = len({line for line in lines if line.startswith("- ") and words(line)})
    return found / len(lines) * max(0.0, 1 - abs(found - int(value)) / int(value))


def keyword(answer: str, value: str) -> float:
    return float(value.lower() in [word.lower() for word in words(answer)])


def one_sentence(answer: str, _: str) -> float:
    """1 / sentences, half of that where the last one has no end."""
    found = [part for part in SENTENCE.findall(answer) if words(part)]
    return (1 if answer.rstrip(QUOTES)[-1:] in tuple(".!?") else 0.5) / len(found)


def json_object(answer: str, _: str) -> float:
    try:
        found = json.loads(answer)
    except ValueError:
        return 0.25 if answer.startswith("{") else 0.0
    text = found.get("answer") if isinstance(found, dict) else None
    return 1.0 if isinstance(text, str) and words(text) else 0.5


def cyrillic(answer: str, _: str) -> float:
    """Share of the letters that are Cyrillic; one word is no answer."""
    letters = [letter for letter in answer if letter.isalpha()]
    share = sum("\u0400" <= letter <= "\u04ff" for letter in letters) / len(letters) if letters else 0.0
    return share if len(set(words(answer))) > 1 else 0.0


TRAINED = (
    Constraint("at_most", "Use at most {value} words.", at_most, ("15", "20", "25")),
    Constraint("at_least", "Use at least {value} words.", at_least, ("25", "30")),
    Constraint("no_commas", "Do not use any commas.", no_commas),
    Constraint("lowercase", "Write everything in lowercase letters.", lowercase),
    Constraint("ends", "End your answer with the word {value}.", ends, ("DONE", "END")),
    Constraint("begins", 'Begin your answer with "{value}".', begins, ("In short:", "Well then:")),
    Constraint("quoted", "Put your whole answer in double quotation marks.", quoted),
    Constraint("bullets", 'Answer with exactly {value} bullet points that start with "- ".', bullets, ("3",)),
    Constraint("keyword", 'Use the word "{value}".', keyword, ("important", "simple", "often")),
)
# Kinds and combinations of two that no training prompt has.
HELD_OUT = (
    Constraint("one_sentence", "Answer in one sentence.", one_sentence),
    Constraint("capitals", "Write everything in capital letters.", capitals),
    Constraint("json", 'Answer as a JSON object with the one key "answer".', json_object),
    Constraint("cyrillic", "Answer in Russian.", cyrillic),
)
HELD_OUT_TOGETHER = (("at_most", "begins"), ("lowercase", "ends"), ("no_commas", "quoted"), ("bullets", "keyword"))


def asked(prompt: str) -> list[tuple[Constraint, str]]:
    """The constraints of a prompt, each with its value."""
    found = [(constraint, constraint.pattern.search(prompt)) for constraint in TRAINED + HELD_OUT]
    return [(constraint, match[1] if match.groups() else "") for constraint, match in found if match]


def constraint_score(prompt: str, answer: str) -> float | None:
    """How far an answer meets the constraints of its prompt: their mean, in [0, 1]; None for a prompt without any."""
    constraints = asked(prompt)
    if not constraints:
        return None
    return sum(constraint.score(answer, value) for constraint, value in constraints) / len(constraints)

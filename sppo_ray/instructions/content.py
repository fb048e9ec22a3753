"""Whether an answer has content: the second signal, without which a policy wins by meeting constraints and saying nothing.

In: a prompt and an answer. Out: a score in [0, 1]: half for sentences without repetition, the other half if they keep to the topic.
Relevance counts words of the instruction's topic. They stand after the instruction in training.txt and held_out.txt, written by
hand: words that good answers are likely to have.
"""

from functools import cache
from itertools import pairwise
from pathlib import Path

from sppo_ray.instructions.constraints import asked, constraint_score, words

FOLDER = Path(__file__).parent
STEM = 5  # letters that tell a word
LEAST_WORDS = 4
NEW_WORDS = 2  # words of content that the prompt lacks; a part of it given back has none
TOPICS = 2  # words of the topic that a relevant answer has; one of them may be the instruction's own
FUNCTION_SHARE = 0.15  # of function words, which a list of keywords lacks

FUNCTION_WORDS = frozenset(
    "a about above after again all also am an and any are as at be because been before being below between both but by can "
    "could did do does each every few for from had has have he her here him his how i if in into is it its it's just like me "
    "more most my no nor not of off on once one only or other our out over own same she should so some such than that the "
    "their them then there these they this those through to too under until up us very was we were what when where which "
    "while who whom why will with would you your".split()
)


def topic_words(text: str) -> set[str]:
    """The stems of a text's words, apart from function words."""
    return {word[:STEM] for word in map(str.lower, words(text)) if word not in FUNCTION_WORDS and len(word) > 2}


@cache
def instructions(name: str) -> dict[str, frozenset[str]]:
    """The instructions of training.txt or held_out.txt, each with the stems of its topic words."""
    lines = (line.split("\t") for line in (FOLDER / f"{name}.txt").read_text("utf-8").splitlines())
    return {text: frozenset(word[:STEM] for word in topics.split()) for text, topics in lines}


def instruction_of(prompt: str) -> str:
    """A prompt without its constraints."""
    for constraint, _ in asked(prompt):
        prompt = constraint.pattern.sub("", prompt)
    return prompt.strip()


def content_score(prompt: str, answer: str) -> float:
    """0 for an answer of under four words, or that says nothing but the prompt; half for one that misses the topic."""
    values = [value for _, value in asked(prompt)]
    for value in filter(None, values):
        answer = answer.replace(value, "")
    said = [word.lower() for word in words(answer)]
    instruction = instruction_of(prompt)
    own, stems = topic_words(instruction), topic_words(answer)
    if len(said) < LEAST_WORDS or len(stems - topic_words(prompt)) < NEW_WORDS:
        return 0.0
    topics = instructions("training").get(instruction) or instructions("held_out").get(instruction, frozenset())
    relevance = min(1.0, (len(stems & topics - own) + bool(stems & own)) / TOPICS)
    fluency = min(1.0, sum(word in FUNCTION_WORDS for word in said) / len(said) / FUNCTION_SHARE)
    return (1 + relevance) / 2 * fluency * _freshness(said)


def _freshness(said: list[str]) -> float:
    """1 without repetition, 0 where half of all word pairs have been there before."""
    pairs = list(pairwise(said))
    return max(0.0, 1 - 2 * (1 - len(set(pairs)) / len(pairs)))


def scores(prompt: str, answers: list[str]) -> list[float]:
    """The judge: constraints times content, in [0, 1]."""
    return [(constraint_score(prompt, answer) or 0.0) * content_score(prompt, answer) for answer in answers]


def constraint_scores(prompt: str, answers: list[str]) -> list[float]:
    """The judge without the second signal."""
    return [constraint_score(prompt, answer) or 0.0 for answer in answers]

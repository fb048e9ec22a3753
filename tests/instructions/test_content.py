"""The second signal on honest answers and on the ways to win without content that a run without it found."""

import pytest

from sppo_ray.instructions import constraint_scores, content_score, scores
from sppo_ray.instructions.content import instructions

PROMPT = "How do bees make honey? End your answer with the word DONE."
HONEST = "Bees collect nectar from the flowers and turn it into honey in the hive. DONE"


def test_an_honest_answer_has_content() -> None:
    assert content_score(PROMPT, HONEST) == 1.0


@pytest.mark.parametrize(
    "answer, score",
    [
        ("DONE.", 0),
        ("Honey. DONE", 0),
        ("How do bees make honey? DONE", 0),  # the question given back
        ("End your answer with the word DONE", 0),  # the constraint given back
        ("How do bees make honey? End your answer with the word DONE.", 0),  # all of it
        ("In-Short-Short-Short- DONE", 0),
        ("The bees make honey. The bees make honey. The bees make honey. DONE", 0),
        ("nectar pollen flowers hive honey bees DONE", 0),  # keywords without a sentence
        # One new pair of words in three: i'm an, an author, author i, i am, am an, an author, author i'm, ...
        ("I'm an author. I am an author. I'm an author. DONE", 1 / 2 * (1 - 2 * (1 - 6 / 9))),
        ("The weather is nice today and I like to walk in the park. DONE", 1 / 2),  # another topic
        ("The weather is nice today and bees like to walk in the park. DONE", 3 / 4),
    ],
)
def test_an_answer_without_content_scores_little(answer: str, score: float) -> None:
    assert content_score(PROMPT, answer) == pytest.approx(score)


def test_constraints_count_only_with_content() -> None:
    """A judge without content likes an empty answer as much as an honest one."""
    answers = [HONEST, HONEST.removesuffix(" DONE"), "Yes. DONE."]
    assert constraint_scores(PROMPT, answers) == [1.0, 0.0, 1.0]
    assert scores(PROMPT, answers) == [1.0, 0.0, 0.0]


def test_every_instruction_has_topics_and_none_is_in_both_files() -> None:
    training, held_out = instructions("training"), instructions("held_out")
    assert (len(training), len(held_out)) == (256, 65)
    assert not training.keys() & held_out.keys()
    assert min(map(len, [*training.values(), *held_out.values()])) >= 3

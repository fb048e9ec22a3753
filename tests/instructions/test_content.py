"""The second signal on honest answers and on the ways to win without content that a run without it found."""

import pytest

from sppo_ray.instructions import constraint_scores, content_score, scores
from sppo_ray.instructions.content import instructions

PROMPT = "How do bees make honey? End your answer with the word DONE."
HONEST = "Bees collect nectar from the flowers and turn it into honey in the hive. DONE"


def test_an_honest_answer_has_content() -> None:
    assert content_score(PROMPT, HONEST) == 1.0


@pytest.mark.parametrize(
    "answer, most",
    [
        ("DONE.", 0.0),
        ("Honey. DONE", 0.0),
        ("How do bees make honey? DONE", 1 / 3),  # the question given back: one topic word of three
        ("I'm an author. I am an author. I'm an author. DONE", 0.0),
        ("In-Short-Short-Short- DONE", 0.0),
        ("The bees make honey. The bees make honey. The bees make honey. DONE", 0.1),
        ("nectar pollen flowers hive honey bees DONE", 0.0),  # keywords without a sentence
        ("The weather is nice today and I like to walk in the park. DONE", 0.0),
    ],
)
def test_an_answer_without_content_scores_little(answer: str, most: float) -> None:
    assert content_score(PROMPT, answer) <= most


def test_content_counts_before_constraints() -> None:
    """Content alone a quarter, both all of it, the constraint alone nothing, though a judge without content likes it best."""
    assert constraint_scores(PROMPT, [HONEST, HONEST.removesuffix(" DONE"), "Yes. DONE."]) == [1.0, 0.0, 1.0]
    assert scores(PROMPT, [HONEST, HONEST.removesuffix(" DONE"), "DONE."]) == [1.0, 0.25, 0.0]


def test_every_instruction_has_topics_and_none_is_in_both_files() -> None:
    training, held_out = instructions("training"), instructions("held_out")
    assert (len(training), len(held_out)) == (256, 65)
    assert not training.keys() & held_out.keys()
    assert min(map(len, [*training.values(), *held_out.values()])) >= 3

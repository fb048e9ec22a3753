"""Answers that win under a judge of form alone, found and named without knowing what was asked for."""

from dataclasses import replace

import pytest

from sppo_ray.evaluation import degeneration, diagnose
from tests.run_folders import candidates, judged, training_row

PROMPT = "What does the heart do? End with the word DONE."
SHORT, LOOP, ECHO = "have under 4 words", "repeat themselves", "give the prompt back"


@pytest.mark.parametrize(
    "response, kind",
    [
        ("", SHORT),
        ("DONE.", SHORT),
        ("The heart pumps blood.", None),
        ("I'm an author. I am an author. I'm an author.", LOOP),  # six different word pairs of eleven
        ("In-Short-Short-Short-Short-Short", LOOP),  # two of five
        ("I am an author. I am an author. So it is.", None),  # seven of ten
        ("- It pumps.\n- It beats.\n- It rests.", None),  # five of five
        ('"What does the heart do?" DONE', ECHO),  # five of its six words are the prompt's, in a row
        ("End with the word DONE", ECHO),
        ("The heart does what a pump does.", None),  # the same words in another order
    ],
)
def test_what_is_wrong_with_a_response_that_says_nothing(response: str, kind: str | None) -> None:
    assert degeneration(PROMPT, response) == kind


HONEST = [
    "It pumps blood through the body.", "The heart beats all day long. DONE", "It moves blood to the lungs and back. DONE",
    '"The heart is a pump that never rests."', "- pumps blood\n- carries oxygen\n- beats by itself",
]  # fmt: skip
EMPTY = ["DONE.", "DONE. DONE.", '"What does the heart do?" DONE', "I'm a heart. I am a heart. I'm a heart."]


def warned(new: list[str]) -> list[str]:
    sampled = candidates(["one", "two two"])
    scored = [(sampled, judged(sampled, [[0, 1], [-1, 0]], [0.69, 0.31]))]
    held_out, base = ([replace(candidates(texts), prompt=PROMPT)] for texts in (new, HONEST * 2))
    return diagnose(scored, [training_row(1)], held_out, base).warnings


def test_a_policy_that_pleases_a_judge_of_form_is_warned_of_in_words() -> None:
    """Four of ten answers say nothing; two have hardly any words, one is a loop, one the question."""
    (words,) = warned([*HONEST, HONEST[0], *EMPTY])
    assert words.startswith(
        "degenerate: 40% of the responses say nothing (20% have under 4 words, 10% repeat themselves, 10% give the prompt "
        "back), of the base's 0% (limit 5 points more): the policy pleases the judge without answering; in a new run, "
    )


def test_a_policy_that_answers_is_not_warned_of() -> None:
    assert warned(HONEST * 2) == []
    assert warned([*HONEST, "They are two pumps in one.", *HONEST[1:]]) == []

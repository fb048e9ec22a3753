"""Each constraint on hand-made answers: met, half met, and answers that try to cheat."""

import pytest

from sppo_ray.instructions import constraint_score
from sppo_ray.instructions.constraints import HELD_OUT, TRAINED, asked

CASES = [
    ("at_most", "3", "Bees make honey.", 1.0),
    ("at_most", "3", "Bees make sweet golden honey.", 1 / 3),  # 2 - 5 / 3
    ("at_most", "3", "one two three four five six seven", 0.0),
    ("at_most", "3", "...", 0.0),
    ("at_least", "8", "Bees fly from flower to flower.", 0.75),
    ("at_least", "8", "bees bees bees bees bees bees bees bees", 0.25),  # one word counts twice at most
    ("no_commas", "", "Red and green and blue.", 1.0),
    ("no_commas", "", "Red, green, and blue.", 1 / 3),
    ("no_commas", "", "Red， green、 blue.", 1 / 3),  # commas of other scripts
    ("lowercase", "", "bees make honey.", 1.0),
    ("lowercase", "", "Bees make Honey.", 1 / 3),
    ("lowercase", "", "BEES", 0.0),
    ("lowercase", "", "12345", 0.0),  # no letters at all
    ("ends", "DONE", "Bees make honey. DONE.", 1.0),
    ("ends", "DONE", "Bees make honey. Done", 0.5),
    ("ends", "DONE", "DONE bees DONE", 0.5),
    ("ends", "DONE", "DONE.", 0.0),
    ("ends", "DONE", "DONE. Bees make honey.", 0.0),
    ("ends", "DONE", "They have ABANDONE", 0.0),
    ("begins", "In short:", "In short: bees make honey.", 1.0),
    ("begins", "In short:", "in short: bees make honey.", 0.5),
    ("begins", "In short:", "In short:", 0.0),
    ("begins", "In short:", "Bees. In short: honey.", 0.0),
    ("quoted", "", '"Bees make honey."', 1.0),
    ("quoted", "", "“Bees make honey.”", 1.0),
    ("quoted", "", '"Bees make honey.', 0.5),
    ("quoted", "", '"Bees" make "honey"', 0.5),
    ("quoted", "", '""', 0.0),
    ("bullets", "3", "- bees\n- honey\n- wax", 1.0),
    ("bullets", "3", "Here they are:\n- bees\n- honey\n- wax", 0.75),
    ("bullets", "3", "- bees\n- honey", 2 / 3),
    ("bullets", "3", "- bees\n- bees\n- bees", 1 / 9),  # one different bullet of three lines
    ("bullets", "3", "- \n- \n- \nbees", 0.0),
    ("bullets", "3", "bees - honey - wax", 0.0),
    ("keyword", "often", "Often, bees fly.", 1.0),
    ("keyword", "often", "Bees soften wax.", 0.0),
    ("one_sentence", "", "Bees make honey.", 1.0),
    ("one_sentence", "", "Bees make honey", 0.5),
    ("one_sentence", "", "Bees fly. They make honey.", 0.5),
    ("capitals", "", "BEES MAKE HONEY", 1.0),
    ("capitals", "", "Bees", 0.25),
    ("capitals", "", "1 2 3", 0.0),
    ("json", "", '{"answer": "Bees make honey."}', 1.0),
    ("json", "", '{"answer": ""}', 0.5),
    ("json", "", '{"text": "Bees"}', 0.5),
    ("json", "", '{"answer": "Bees', 0.25),
    ("json", "", "Bees", 0.0),
    ("cyrillic", "", "Пчёлы делают мёд.", 1.0),
    ("cyrillic", "", "да да да", 0.0),  # one word is no answer
    ("cyrillic", "", "Bees make honey.", 0.0),
]


@pytest.mark.parametrize("name, value, answer, score", CASES)
def test_scores_by_hand(name: str, value: str, answer: str, score: float) -> None:
    constraint = next(one for one in TRAINED + HELD_OUT if one.name == name)
    assert constraint.score(answer, value) == pytest.approx(score)


def test_every_constraint_has_a_case() -> None:
    assert {name for name, *_ in CASES} == {one.name for one in TRAINED + HELD_OUT}


@pytest.mark.parametrize("answer", ["", " ", "...", "- \n- \n- ", '""', "{}"])
def test_an_answer_without_words_scores_nothing(answer: str) -> None:
    assert [one.score(answer, one.values[0]) for one in TRAINED + HELD_OUT] == [0.0] * 13


def test_a_prompt_is_scored_by_the_constraints_that_it_names() -> None:
    prompt = "Why do cats purr? Use at most 20 words. End your answer with the word END."
    assert [(one.name, value) for one, value in asked(prompt)] == [("at_most", "20"), ("ends", "END")]
    assert constraint_score(prompt, "They are happy. END") == 1.0
    assert constraint_score(prompt, "They are happy.") == 0.5
    assert constraint_score("Why do cats purr?", "They are happy.") is None

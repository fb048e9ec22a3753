"""Which comparisons are made: all ordered pairs, or each pair once in random order."""

import numpy as np
import pytest

from sppo_ray.judging.orders import both_orders, to_compare
from sppo_ray.preference import win_rates

TEXTS = ["a", "b", "c", "d"]


def test_two_orders_are_all_ordered_pairs() -> None:
    assert to_compare(["p", "q"], [TEXTS, ["a"] * 4], orders=2).tolist() == [(~np.eye(4, dtype=bool)).tolist()] * 2


def test_one_order_compares_each_pair_once_and_not_always_the_same_way_round() -> None:
    made = to_compare([f"prompt {n}" for n in range(200)], [TEXTS] * 200, orders=1)
    assert (made ^ made.swapaxes(1, 2) == ~np.eye(4, dtype=bool)).all()
    assert made.sum() == 200 * 6
    assert made[:, 0, 1].mean() == pytest.approx(0.5, abs=0.12)  # more than three standard deviations


def test_the_order_depends_on_the_prompt_and_its_responses_only() -> None:
    alone, (_, among) = to_compare(["p"], [TEXTS], orders=1), to_compare(["q", "p"], [TEXTS[::-1], TEXTS], orders=1)
    assert np.array_equal(alone[0], among)


def test_equal_texts_are_compared_alike_and_not_with_each_other() -> None:
    for prompt in map(str, range(20)):
        (made,) = to_compare([prompt], [["a", "b", "a"]], orders=1)
        assert not made[0, 2] and not made[2, 0]
        assert made[0, 1] == made[2, 1] != made[1, 0] == made[1, 2]


def test_an_order_that_was_not_made_is_the_other_s_opposite() -> None:
    made = np.array([[[False, True, False], [False, False, False], [True, True, False]]])
    found = both_orders(np.float32([[[0, 2, 9], [9, 0, 9], [3, np.nan, 0]]]), made)
    assert np.array_equal(found, np.float32([[[0, 2, -3], [-2, 0, np.nan], [3, np.nan, 0]]]), equal_nan=True)


def test_without_bias_one_order_gives_the_win_rates_of_two() -> None:
    scores = np.float32([0.3, -1.0, 2.0, 0.0])
    logits = (scores[:, None] - scores)[None]
    made = to_compare(["p"], [TEXTS], orders=1)
    assert np.allclose(win_rates(both_orders(logits, made)), win_rates(logits))


def test_nothing_to_compare() -> None:
    assert to_compare([], [], orders=1).size == 0

"""Win rates and pairs against numbers worked by hand and against a slow version written with loops."""

import math

import numpy as np
import pytest

from sppo_ray.loss import LOSSES
from sppo_ray.preference import preference_probabilities, select_pair, win_rates

ESTIMATORS = ("pairwise", "pooled")
SIZES = (2, 3, 5, 8)

# c[0, 1] - c[1, 0] = ln 3, c[0, 2] - c[2, 0] = ln 9, c[1, 2] - c[2, 1] = 0: sigmoid gives 3/4, 9/10, 1/2.
LN3 = math.log(3)
BY_HAND = [[0.0, LN3, LN3], [0.0, 0.0, 1.0], [-LN3, 1.0, 0.0]]


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def slow(comparisons, estimator, temperature) -> tuple[list[float], int, int]:
    """Win rates, chosen and rejected of one prompt, as ALGORITHM.md writes them."""
    size = len(comparisons)
    scores = [sum(comparisons[i][j] - comparisons[j][i] for j in range(size)) / size for i in range(size)]
    rates = []
    for i in range(size):
        total = 0.0
        for j in range(size):
            margin = comparisons[i][j] - comparisons[j][i] if estimator == "pairwise" else scores[i] - scores[j]
            total += sigmoid(margin / temperature)
        rates.append(total / size)
    ranked = rates if estimator == "pairwise" else scores
    return rates, ranked.index(max(ranked)), ranked.index(min(ranked))


def random_comparisons(size: int, *batch: int) -> np.ndarray:
    logits = np.random.default_rng(size).normal(scale=2, size=(*batch, size, size))
    return logits * (1 - np.eye(size))


def test_pairwise_by_hand():
    expected = [(0.5 + 0.75 + 0.9) / 3, (0.25 + 0.5 + 0.5) / 3, (0.1 + 0.5 + 0.5) / 3]
    np.testing.assert_allclose(win_rates(BY_HAND), expected, atol=1e-12)
    assert select_pair(BY_HAND) == (0, 2)


def test_pooled_by_hand():
    """S = [ln 3, -ln 3 / 3, -2 ln 3 / 3], so P[0, 1] = sigmoid(4/3 ln 3) and so on: Bradley-Terry of the scores."""
    power = [3.0, 3 ** (-1 / 3), 3 ** (-2 / 3)]
    expected = [sum(mine / (mine + other) for other in power) / 3 for mine in power]
    np.testing.assert_allclose(win_rates(BY_HAND, "pooled"), expected, atol=1e-12)
    assert select_pair(BY_HAND, "pooled") == (0, 2)


def test_a_calibrated_judge_by_hand():
    """Temperature 2 halves the margins: sigmoid(ln 9 / 2) = sigmoid(ln 3) = 3/4."""
    assert preference_probabilities(BY_HAND, temperature=2.0)[0, 2] == pytest.approx(0.75)


def test_rock_paper_scissors_is_even_in_win_rates_and_not_in_preferences():
    cycle = [[0.0, 2.0, 0.0], [0.0, 0.0, 2.0], [2.0, 0.0, 0.0]]
    np.testing.assert_allclose(win_rates(cycle), [0.5, 0.5, 0.5])
    np.testing.assert_allclose(preference_probabilities(cycle)[0], [0.5, sigmoid(2), sigmoid(-2)])
    np.testing.assert_allclose(preference_probabilities(cycle, "pooled"), 0.5)  # a score has no room for a cycle


def test_the_two_estimators_choose_different_pairs_where_margins_saturate():
    """Response 0 beats one other by far; response 1 beats both of the others, clearly."""
    logits = np.zeros((3, 3))
    logits[0, 2], logits[1, 0], logits[1, 2] = 20.0, 3.0, 3.0
    assert select_pair(logits, "pairwise")[0] == 1
    assert select_pair(logits, "pooled")[0] == 0


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_equal_responses_are_ties_and_the_first_one_is_taken(estimator):
    np.testing.assert_array_equal(win_rates(np.zeros((2, 2)), estimator), [0.5, 0.5])
    assert select_pair(np.zeros((4, 4)), estimator) == (0, 0)
    logits = np.zeros((4, 4))
    logits[1, 0] = logits[1, 3] = logits[2, 0] = logits[2, 3] = 1.0  # 1 and 2 share the top, 0 and 3 the bottom
    assert select_pair(logits, estimator) == (1, 0)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("size", SIZES)
def test_agrees_with_the_slow_version(size, estimator, temperature):
    logits = random_comparisons(size, 20)
    rates = win_rates(logits, estimator, temperature)
    chosen, rejected = select_pair(logits, estimator, temperature)
    for row in range(len(logits)):
        expected, best, worst = slow(logits[row].tolist(), estimator, temperature)
        np.testing.assert_allclose(rates[row], expected, atol=1e-6)
        assert (chosen[row], rejected[row]) == (best, worst)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("size", SIZES)
def test_batch_dimensions_are_kept(size, estimator):
    logits = random_comparisons(size, 3, 4)
    rates, (chosen, rejected) = win_rates(logits, estimator), select_pair(logits, estimator)
    assert rates.shape == (3, 4, size) and chosen.shape == rejected.shape == (3, 4)
    np.testing.assert_allclose(rates[2, 1], win_rates(logits[2, 1], estimator), atol=1e-12)
    np.testing.assert_allclose(rates.mean(axis=-1), 0.5)  # a constant-sum game


def test_huge_logits_do_not_overflow():
    with np.errstate(all="raise"):
        np.testing.assert_allclose(win_rates([[0.0, 4000.0], [-4000.0, 0.0]]), [0.75, 0.25])


def test_bradley_terry_judges_double_their_rewards():
    """c[i, j] = r_i - r_j: `pooled` gives sigmoid(2 (r_i - r_j)), and a temperature of 2 undoes it, in both estimators."""
    rewards = np.array([0.3, -1.0, 2.0])
    logits = rewards[:, None] - rewards[None, :]
    for estimator in ESTIMATORS:
        np.testing.assert_allclose(preference_probabilities(logits, estimator), 1 / (1 + np.exp(-2 * logits)))
        np.testing.assert_allclose(preference_probabilities(logits, estimator, 2.0), 1 / (1 + np.exp(-logits)))


@pytest.mark.parametrize("shape", [(3,), (2, 3), (4, 3, 2)])
def test_what_is_no_square_is_refused(shape):
    with pytest.raises(ValueError, match="expected"):
        win_rates(np.zeros(shape))


def test_targets_of_the_pointwise_losses():
    assert LOSSES["sppo"].targets((0.8, 0.3), 0.9) == (0.8, 0.3)
    assert LOSSES["sppo_single"].targets((0.8, 0.3), 0.9) == (0.9, pytest.approx(0.1))
    assert LOSSES["sppo_hard"].targets((0.8, 0.3), 0.9) == (1.0, 0.0)

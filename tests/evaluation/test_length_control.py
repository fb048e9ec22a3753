"""Length-controlled win rates against `alpaca_eval`'s own code, and what they do with lengths that say nothing.

REFERENCE was computed by `alpaca_eval` 0.6.6 with scikit-learn 1.9.1 in an environment of its own, from `annotations` below:
`make_dmatrix_for_model` and `fit_LogisticRegressionCV` of `alpaca_eval.metrics.glm_winrate` with
`GLM_INFO["length_controlled_minimal"]`, on a frame with the columns

    preference = won, not_gamed_baseline = True, std_delta_len = (other - mine) / (other - mine).std()

and for the prediction std_delta_len = 0; the number is 100 * model.predict_proba(X_test)[:, 1].mean().
"""

import numpy as np
import pytest
from numpy.typing import NDArray

from sppo_ray.evaluation import length_controlled, more_characters
from tests.evaluation.test_comparison import candidates

REFERENCE = [  # seed, prompts, bias, further characters, LC win rate in %
    (2, 805, 0.3, 300, 56.9435),
    (3, 805, -0.8, 1000, 35.1272),
    (4, 805, 1.0, -500, 70.4765),
    (1, 805, 0.0, 300, 50.0000),
    (8, 805, -2.0, 300, 13.3569),
    (5, 200, 0.2, 0, 53.5068),
    (9, 100, 0.0, 900, 52.7343),
    (6, 2000, 0.2, 600, 55.4267),
    (7, 805, 0.5, 0, 60.8662),
    (10, 60, 0.1, 200, 50.0000),
]


def annotations(
    seed: int, prompts: int, bias: float, further: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Wins, and lengths of both answers. The judge likes long answers; odd seeds give probabilities, even ones 0 or 1."""
    rng = np.random.default_rng(seed)
    other, mine = rng.integers(50, 3000, prompts), rng.integers(50, 3000, prompts)
    mine = mine + further
    logits = bias + 1.5 * np.tanh((mine - other) / 900) + rng.normal(0, 1, prompts)
    won = 1 / (1 + np.exp(-logits))
    return won if seed % 2 else (won > rng.random(prompts)).astype(np.float64), mine, other


@pytest.mark.parametrize(("seed", "prompts", "bias", "further", "reference"), REFERENCE)
def test_the_numbers_are_those_of_alpaca_eval(
    seed: int, prompts: int, bias: float, further: int, reference: float
) -> None:
    won, mine, other = annotations(seed, prompts, bias, further)
    found = length_controlled(won, mine - other, seed=0)
    assert 100 * found["lc_win_rate"] == pytest.approx(reference, abs=0.1)
    low, high = found["lc_interval"]
    assert 0 < high - low < 0.3


def test_lengths_that_are_equal_leave_the_win_rate() -> None:
    found = length_controlled([1.0] * 60 + [0.0] * 40, [0.0] * 100, seed=1)
    assert found["lc_win_rate"] == pytest.approx(0.6, abs=0.03)
    # The normal approximation, as for the plain win rate: 0.6 -+ 0.096.
    assert found["lc_interval"] == pytest.approx([0.504, 0.696], abs=0.03)


def test_answers_that_always_win() -> None:
    found = length_controlled([1.0] * 50, np.arange(50.0), seed=1)
    assert found["lc_win_rate"] > 0.9 and all(np.isfinite(found["lc_interval"]))


def test_few_prompts_have_none() -> None:
    assert length_controlled([1.0] * 4, [1.0] * 4, seed=1) == {"lc_win_rate": None, "lc_interval": None}


def test_difference_of_lengths_is_that_of_the_means_per_prompt() -> None:
    a, b = (
        [candidates("p", "abc", "a"), candidates("q", "a", "a")],
        [candidates("p", "a", "a"), candidates("q", "ab", "ab")],
    )
    assert more_characters(a, b) == [1.0, -1.0]

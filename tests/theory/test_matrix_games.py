"""Theorem 4.1 on matrix games with intransitive preferences, by iterating the product's own loss."""

import numpy as np
import pytest
import torch

from sppo_ray.loss import sppo_loss
from sppo_ray.theory import (
    ROCK_PAPER_SCISSORS,
    average_gap,
    duality_gap,
    has_cycle,
    minimum,
    random_game,
    self_play,
    theorem_bound,
    theorem_eta,
)

STEPS = [16, 64, 256, 1024]
GAMES = {"rock-paper-scissors": ROCK_PAPER_SCISSORS} | {f"random-{n}": random_game(n, seed=0) for n in (5, 8, 20)}

games = pytest.mark.parametrize("game", GAMES.values(), ids=GAMES)


@games
def test_games_are_intransitive_preferences(game):
    np.testing.assert_allclose(game + game.T, 1.0)
    assert has_cycle(game)


def test_a_transitive_game_has_no_cycle():
    assert not has_cycle(np.array([[0.5, 0.8, 0.9], [0.2, 0.5, 0.7], [0.1, 0.3, 0.5]]))


def test_duality_gap_by_hand():
    even = np.array([[0.5, 0, 1], [1, 0.5, 0], [0, 1, 0.5]])
    assert duality_gap(even, np.full(3, 1 / 3)) == pytest.approx(0.0)  # the equilibrium
    assert duality_gap(even, np.array([1.0, 0, 0])) == 1.0  # rock: paper wins always, rock never beats paper
    assert duality_gap(even, np.array([0.5, 0.5, 0])) == pytest.approx(
        0.5
    )  # paper wins 3/4, scissors are beaten by 1/2


@games
def test_the_average_policy_s_gap_falls_as_one_over_sqrt_t(game):
    gaps = np.array([average_gap(game, steps) for steps in STEPS])
    assert all(gap <= theorem_bound(len(game), steps) for gap, steps in zip(gaps, STEPS, strict=True))
    # 1/sqrt(T) halves the gap with each fourfold T; 1.7 on average leaves room for how the orbit ends.
    assert (gaps[0] / gaps[-1]) ** (1 / (len(STEPS) - 1)) >= 1.7
    assert np.polyfit(np.log(STEPS), np.log(gaps), 1)[0] < -0.4


def test_the_last_policy_does_not_converge():
    """Why the theorem is about the average: on a cycle the policies themselves go round."""
    policies = self_play(ROCK_PAPER_SCISSORS, eta=0.2, iterations=1000)
    last = [duality_gap(ROCK_PAPER_SCISSORS, policy) for policy in policies[-200:]]
    assert max(last) > 5 * duality_gap(ROCK_PAPER_SCISSORS, policies.mean(axis=0))


@games
def test_iterates_are_exponential_weights(game):
    """pi_{t+1} in proportion to pi_t exp(eta P pi_t), the paper's eq. 4.1, whose log Z the loss has as eta / 2."""
    eta = theorem_eta(len(game), 50)
    policy = np.full(len(game), 1 / len(game))
    for found in self_play(game, eta, iterations=50):
        np.testing.assert_allclose(found, policy, atol=1e-10)
        policy = policy * np.exp(eta * (game @ policy))
        policy /= policy.sum()


def test_the_newton_step_is_the_minimum_of_the_loss():
    """The loss is a square and reaches 0: log pi / pi_t = eta (w - 1/2) for every response."""
    generator = torch.Generator().manual_seed(0)
    logits, win_rate = (torch.rand(5, generator=generator, dtype=torch.float64) for _ in range(2))
    found = minimum(logits, logits.softmax(0), win_rate, eta=3.0)
    torch.testing.assert_close(found - logits, 3.0 * (win_rate - 0.5))
    assert sppo_loss(found - logits, win_rate, eta=3.0).max().item() == pytest.approx(0.0, abs=1e-20)


@pytest.mark.parametrize("eta", [0.05, 0.2])
def test_a_normalized_policy_follows_exponential_weights_to_third_order(eta):
    """A policy whose log-probabilities are normalized, as a language model's are, cannot have log Z = eta / 2 exactly."""
    game = random_game(6, seed=1)
    old = torch.full((6,), 1 / 6, dtype=torch.float64)
    win_rate = torch.from_numpy(game) @ old
    new = old.log()
    for _ in range(300):
        new.requires_grad_()
        loss = (old * sppo_loss(new.log_softmax(0) - old.log(), win_rate, eta=eta)).sum()
        (gradient,) = torch.autograd.grad(loss, new)
        new = (new - gradient / old).detach()
    assert gradient.abs().max().item() < 1e-10
    exact = old * torch.exp(eta * win_rate)
    difference = (new.softmax(0) - exact / exact.sum()).abs().max().item()
    assert difference < eta**3

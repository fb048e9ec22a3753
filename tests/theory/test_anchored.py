"""With a base anchor the last policy converges, on games on which SPPO's goes round: the product's losses in self-play."""

import math

import numpy as np
import pytest
import torch

from sppo_ray.loss import pair_loss
from sppo_ray.theory import (
    INTRANSITIVE,
    anchored_self_play,
    duality_gap,
    has_cycle,
    log_kl,
    pairwise_minimum,
    self_play,
)

START = np.array([0.6, 0.3, 0.1])


def test_the_game_is_intransitive():
    np.testing.assert_allclose(INTRANSITIVE + INTRANSITIVE.T, 1.0)
    assert has_cycle(INTRANSITIVE)


def test_sppo_s_last_policy_keeps_its_gap_while_the_average_converges():
    policies = self_play(INTRANSITIVE, eta=0.1, iterations=4001, start=START)
    assert duality_gap(INTRANSITIVE, policies[-1]) > 0.1
    assert max(duality_gap(INTRANSITIVE, policy) for policy in policies[-300:]) > 0.5
    assert duality_gap(INTRANSITIVE, policies.mean(axis=0)) < 0.01


def test_iterative_ipo_goes_the_same_way_round():
    """Both losses have the exponential weights of the win rates as their minimum."""
    found = anchored_self_play(INTRANSITIVE, eta=0.1, tau=0.0, iterations=300, start=START)
    np.testing.assert_allclose(found, self_play(INTRANSITIVE, eta=0.1, iterations=301, start=START), atol=1e-9)


@pytest.mark.parametrize("eta, tau, slope", [(0.1, 0.2, -0.040), (0.05, 0.2, -0.020), (0.05, 0.5, -0.0505)])
def test_inpo_s_last_policy_converges_to_the_regularised_equilibrium(eta, tau, slope):
    policies = anchored_self_play(INTRANSITIVE, eta, tau, iterations=2500, start=START)
    equilibrium = policies[-1]
    # It is one: the best answer to itself under a penalty of tau KL to the base, log pi = log pi_0 + P pi / tau - log Z.
    best = START * np.exp(INTRANSITIVE @ equilibrium / tau)
    np.testing.assert_allclose(equilibrium, best / best.sum(), atol=1e-12)
    distances = log_kl(policies[:300], equilibrium)
    found = np.polyfit(np.arange(50, 300), distances[50:], 1)[0]
    assert found == pytest.approx(slope, abs=0.001)
    assert found <= math.log(1 - eta * tau)


def test_comal_s_last_policy_converges_to_the_equilibrium_of_the_game():
    """The base moves every 200 iterations; where it stays, the penalty keeps the policy from the equilibrium."""
    moved = anchored_self_play(INTRANSITIVE, eta=0.1, tau=0.2, iterations=8000, start=START, base_every=200)
    assert duality_gap(INTRANSITIVE, moved[-1]) < 1e-6
    fixed = anchored_self_play(INTRANSITIVE, eta=0.1, tau=0.2, iterations=1000, start=START)
    assert duality_gap(INTRANSITIVE, fixed[-1]) == pytest.approx(0.286, abs=0.001)


def test_the_newton_step_is_the_minimum_of_the_pairwise_loss():
    """The gradient of the expected loss vanishes there, by autograd at the new logits."""
    policy = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    reference, matrix = torch.tensor([0.2, -1.0, 0.4], dtype=torch.float64), torch.from_numpy(INTRANSITIVE)
    ratio = (pairwise_minimum(reference, policy, matrix, eta=3.0) - reference).requires_grad_()
    losses = pair_loss(ratio[:, None], ratio[None, :], loss="ipo", eta=3.0)
    (gradient,) = torch.autograd.grad((policy[:, None] * policy * matrix * losses).sum(), ratio)
    assert gradient.abs().max().item() < 1e-12

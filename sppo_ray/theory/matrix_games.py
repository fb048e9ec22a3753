"""The theory check: the product's loss in self-play on matrix games, where everything can be computed exactly.

In: a preference matrix P over n responses to one prompt. Out: the policies of T iterations and the duality gap.
Theorem 4.1 of arXiv 2405.00675: with eta of order 1/sqrt(T) the gap of the average policy falls as 1/sqrt(T).
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from sppo_ray.loss import sppo_loss

Array = NDArray[np.float64]

# Paper beats rock, scissors beat paper, rock beats scissors, each by another margin: no response beats all others.
ROCK_PAPER_SCISSORS = np.array([[0.5, 0.2, 0.9], [0.8, 0.5, 0.3], [0.1, 0.7, 0.5]])
# Another cycle, with wide margins, on which the last policy of SPPO goes far round.
INTRANSITIVE = np.array([[0.5, 0.8, 0.1], [0.2, 0.5, 0.9], [0.9, 0.1, 0.5]])


def random_game(responses: int, seed: int) -> Array:
    """Preferences P[i, j] = 1 - P[j, i] drawn evenly from [0, 1]: intransitive, for more than a few responses."""
    upper = np.triu(np.random.default_rng(seed).uniform(size=(responses, responses)), 1)
    return upper + np.tril(1.0 - upper.T, -1) + np.eye(responses) / 2


def has_cycle(preference: Array) -> bool:
    """Whether three responses beat each other in a circle (each with a probability above 1/2)."""
    beats = (preference > 0.5).astype(int)
    return bool(np.trace(beats @ beats @ beats) > 0)


def duality_gap(preference: Array, policy: Array) -> float:
    """max over pi of P(pi beats policy) - min over pi of P(policy beats pi), in [0, 1]; 0 at the Nash equilibrium."""
    return float((preference @ policy).max() - (policy @ preference).min())


def self_play(preference: Array, eta: float, iterations: int, start: Array | None = None) -> Array:
    """The policies pi_1 .. pi_T, (T, n), each trained from the one before by `sppo_loss` to its minimum.

    The loss is its expectation over pi_t, with the exact win rates w = P pi_t. As in the paper, log pi is the logit and
    its normalizer the constant eta / 2, which is the 1/2 in eta (w - 1/2); softmax takes out what that constant misses.
    """
    responses = len(preference)
    policy = torch.tensor(np.full(responses, 1 / responses) if start is None else start, dtype=torch.float64)
    matrix, logits = torch.from_numpy(preference), policy.log()
    policies = []
    for _ in range(iterations):
        policies.append(policy.numpy())
        logits = minimum(logits, policy, matrix @ policy, eta)
        policy = logits.softmax(0)
    return np.array(policies)


def minimum(logits: torch.Tensor, policy: torch.Tensor, win_rate: torch.Tensor, eta: float) -> torch.Tensor:
    """The logits at which the expected loss is least: one Newton step, since it is quadratic with curvature pi_t."""
    new = logits.clone().requires_grad_()
    loss = (policy * sppo_loss(new - logits, win_rate, eta=eta)).sum()
    (gradient,) = torch.autograd.grad(loss, new)
    return logits - gradient / policy


def theorem_eta(responses: int, iterations: int) -> float:
    """The step of exponential weights that makes its bound least: sqrt(8 ln n / T)."""
    return math.sqrt(8 * math.log(responses) / iterations)


def theorem_bound(responses: int, iterations: int) -> float:
    """The gap that exponential weights guarantee with that step, from the even policy: 2 (ln n / (eta T) + eta / 8)."""
    return math.sqrt(2 * math.log(responses) / iterations)


def average_gap(preference: Array, iterations: int, start: Array | None = None) -> float:
    """Duality gap of the average of T policies, with the theorem's eta for that T."""
    policies = self_play(preference, theorem_eta(len(preference), iterations), iterations, start)
    return duality_gap(preference, policies.mean(axis=0))

"""Self-play with a base anchor on matrix games: the last policy converges, and not only the average.

In: a preference matrix. Out: the policies of T iterations of the product's `ipo` loss: INPO (arXiv 2407.00617), whose policy
goes to the regularised equilibrium, and COMAL (arXiv 2410.23223), which moves the base and reaches the equilibrium of the game.
"""

import numpy as np
import torch

from sppo_ray.config import Anchors, TrainingSettings
from sppo_ray.loss import pair_loss
from sppo_ray.theory.matrix_games import Array


def anchored_self_play(
    preference: Array, eta: float, tau: float, iterations: int, start: Array, base_every: int | None = None
) -> Array:
    """The policies pi_0 .. pi_T, (T + 1, n), each trained from the one before by `ipo` to its minimum.

    Anchors: current 1 - eta tau, base eta tau. The base is `start`, or moves to the current policy every `base_every`
    iterations. With tau = 0 only the sampler anchors: iterative IPO.
    """
    matrix = torch.from_numpy(preference)
    logs = [torch.tensor(start, dtype=torch.float64).log()]
    anchors = Anchors(current=1 - eta * tau, base=eta * tau)
    training = TrainingSettings(loss="ipo", eta=eta, anchors=anchors, base_every=base_every)
    for t in range(iterations):
        reference = torch.stack([weight * logs[k] for k, weight in training.anchored(t + 1).items()]).sum(0)
        logs.append(pairwise_minimum(reference, logs[t].exp(), matrix, eta).log_softmax(0))
    return torch.stack(logs).exp().numpy()


def pairwise_minimum(reference: torch.Tensor, policy: torch.Tensor, matrix: torch.Tensor, eta: float) -> torch.Tensor:
    """The logits at which the expected `ipo` loss is least, up to a constant.

    Both responses of a pair are drawn from `policy`, and chosen with the probability in `matrix`. The loss is quadratic with
    curvature 2 (diag(pi) - pi pi'), so one Newton step gets there: log pi = reference + eta P pi + constant.
    """
    log_ratio = torch.zeros_like(reference, requires_grad=True)
    losses = pair_loss(log_ratio[:, None], log_ratio[None, :], loss="ipo", eta=eta)
    (gradient,) = torch.autograd.grad((policy[:, None] * policy * matrix * losses).sum(), log_ratio)
    return reference - gradient / (2 * policy)


def log_kl(policies: Array, equilibrium: Array) -> Array:
    """log KL(equilibrium || policy) of each of the policies (T, n), (T,)."""
    return np.log((equilibrium * np.log(equilibrium / policies)).sum(axis=1))

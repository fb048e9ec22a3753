"""The objectives: SPPO (arXiv 2405.00675) and its family, on the pair (chosen, rejected), in the papers' symbols.

In: log-ratios a(y) = log pi(y|x) - sum_k lambda_k log pi_k(y|x) to the anchors pi_k (SPPO: pi_t alone), summed over response
tokens, in nats. Out: one loss per pair.
`eta` is the scale of the target everywhere. Losses are registered by name; one from outside is `package.module:function`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sppo_ray.errors import ConfigError
from sppo_ray.loading import load_named

if TYPE_CHECKING:
    from torch import Tensor

Rates = tuple[Any, Any]  # of the chosen and of the rejected response: two numbers, or two tensors (batch,)


def sppo_loss(log_ratio: "Tensor", win_rate: "Tensor", *, eta: float) -> "Tensor":
    """1/2 (a - eta (w - 1/2))^2, the SPPO objective (arXiv 2405.00675, eq. 4.3, and the release's factor 1/2).

    log_ratio: a = log pi(y|x) - log pi_t(y|x), summed over response tokens, nats, any shape.
    win_rate: w, of the same shape, in [0, 1].  Returns one loss per response; a pair's loss is the sum of its two.
    """
    return 0.5 * (log_ratio - eta * (win_rate - 0.5)) ** 2


@dataclass(frozen=True)
class Loss:
    """A registered loss is either pointwise or pairwise.

    targets: pointwise; from w of both responses and P[chosen, rejected] to the win rates that `sppo_loss` regresses them to.
    pairwise: from the two log-ratios, eta and w of both responses to the loss per pair; it needs both in one forward pass.
    """

    targets: Callable[[Rates, Any], Rates] | None = None
    pairwise: Callable[["Tensor", "Tensor", float, Rates], "Tensor"] | None = None


def _ipo(chosen: "Tensor", rejected: "Tensor", eta: float, _: Rates) -> "Tensor":
    """(a_w - a_l - eta/2)^2: IPO (arXiv 2310.12036) with tau = 1/eta."""
    return (chosen - rejected - eta / 2) ** 2


def _rebel(chosen: "Tensor", rejected: "Tensor", eta: float, win_rates: Rates) -> "Tensor":
    """1/2 (a_w - a_l - eta (w_w - w_l))^2: REBEL (arXiv 2404.16767) with the win rate as reward."""
    return 0.5 * (chosen - rejected - eta * (win_rates[0] - win_rates[1])) ** 2


def _dpo(chosen: "Tensor", rejected: "Tensor", eta: float, _: Rates) -> "Tensor":
    """-log sigmoid((a_w - a_l) / eta): DPO (arXiv 2305.18290) with beta = 1/eta."""
    from torch.nn.functional import logsigmoid

    return -logsigmoid((chosen - rejected) / eta)


LOSSES = {
    "sppo": Loss(targets=lambda win_rates, _: win_rates),  # w of each: the paper's eq. 4.3
    "sppo_single": Loss(targets=lambda _, preference: (preference, 1.0 - preference)),  # the release
    "sppo_hard": Loss(targets=lambda *_: (1.0, 0.0)),  # the hard-label limit; TRL's lacks the factor 1/2
    "ipo": Loss(pairwise=_ipo),
    "rebel": Loss(pairwise=_rebel),
    "dpo": Loss(pairwise=_dpo),
}


def find_loss(name: str) -> Loss:
    """The loss of that name, or of `package.module:function`, a pairwise one of (chosen, rejected, eta, win_rates).

    Raises `ConfigError` for an unknown name.
    """
    found = load_named(name, LOSSES, "training.loss")
    return found if isinstance(found, Loss) else Loss(pairwise=found)


def check_loss(name: str, eta: float) -> None:
    """Raise `ConfigError` for a loss from outside that does not return one differentiable number per pair, on two pairs."""
    loss = find_loss(name)
    if name in LOSSES or loss.pairwise is None:
        return
    import torch

    chosen, rejected = (torch.tensor(values, requires_grad=True) for values in ([1.0, -1.0], [0.5, -2.0]))
    rates = torch.tensor([0.75, 0.6]), torch.tensor([0.25, 0.1])
    try:
        losses = loss.pairwise(chosen, rejected, eta, rates)
        if losses.shape != (2,):
            raise ValueError(f"it returned the shape {tuple(losses.shape)} for 2 pairs; expected (2,)")
        losses.sum().backward()
    except Exception as error:  # the user's code may raise anything
        raise ConfigError(f"training.loss={name}, tried on two pairs: {type(error).__name__}: {error}") from error


def pair_loss(
    chosen: "Tensor",
    rejected: "Tensor",
    *,
    loss: str,
    eta: float,
    win_rates: "Tensor | Rates | None" = None,
    preference: "Tensor | None" = None,
) -> "Tensor":
    """The loss (batch,) of pairs with these log-ratios (batch,), in nats.

    win_rates: w of the chosen and the rejected responses, as two tensors (batch,) or one (batch, 2); sppo and rebel need it.
    preference: P[chosen, rejected] (batch,); sppo_single needs it.
    """
    kind = find_loss(loss)
    rates: Any = win_rates if win_rates is None or isinstance(win_rates, tuple | list) else win_rates.unbind(-1)
    if kind.pairwise is not None:
        return kind.pairwise(chosen, rejected, eta, rates)
    assert kind.targets is not None
    targets = kind.targets(rates, preference)
    return sppo_loss(chosen, targets[0], eta=eta) + sppo_loss(rejected, targets[1], eta=eta)

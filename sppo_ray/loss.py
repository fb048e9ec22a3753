"""The SPPO loss (arXiv 2405.00675), in the paper's symbols, and log-probabilities the plain way, from logits.

In: log-ratios log pi(y|x) - log pi_t(y|x) in nats, or logits. Out: per-response losses, per-token log-probabilities.
"""

from torch import Tensor
from torch.nn import functional as F


def sppo_loss(log_ratio: Tensor, win_rate: Tensor, *, eta: float) -> Tensor:
    """1/2 (a - eta (w - 1/2))^2, the SPPO objective (arXiv 2405.00675, eq. 4.3, and the release's factor 1/2).

    log_ratio: a = log pi(y|x) - log pi_t(y|x), summed over response tokens, nats, any shape.
    win_rate: w, of the same shape, in [0, 1].  Returns one loss a response; a pair's loss is the sum of its two.
    """
    return 0.5 * (log_ratio - eta * (win_rate - 0.5)) ** 2


def token_logprobs(logits: Tensor, token_ids: Tensor) -> Tensor:
    """log pi of each token given those before it: logits (batch, length, vocabulary), ids (batch, length) to (batch, length).

    Position t is scored by the logits at t - 1; position 0, which nothing precedes, is 0. What tests and benches compare
    with: the trainer scores from hidden states (`scoring`), without logits in memory.
    """
    scored = -F.cross_entropy(logits[:, :-1].float().transpose(1, 2), token_ids[:, 1:], reduction="none")
    return F.pad(scored, (1, 0))

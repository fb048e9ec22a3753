"""Log-probabilities of response tokens straight from hidden states: full logits never exist.

In: a causal language model, token ids, which of them to score. Out: log pi of each scored token, with gradients.
The vocabulary is taken slice by slice, forward and backward, so memory does not grow with it.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sppo_ray.training.portions import logit_slice


class Scorer(nn.Module):
    """A model as the trainer needs it: from tokens to the log-probabilities of the response tokens."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        cap = getattr(network.config.get_text_config(), "final_logit_softcapping", None)
        self.head = Head(network.get_output_embeddings(), cap)

    def forward(self, token_ids: Tensor, attention_mask: Tensor, scored: Tensor) -> Tensor:
        """All (rows, length), right-padded; `scored` is a mask. Returns log pi in float32, 0 where `scored` is false."""
        network = self.network
        # What Transformers names the base of Llama 4 is the whole model, logits included.
        body = network.base_model if network.base_model is not network else network.model
        states = body(input_ids=token_ids, attention_mask=attention_mask).last_hidden_state
        # A token is scored by the tokens before it; position 0 has none and is never scored.
        hidden = states[:, :-1][scored[:, 1:]]
        logprobs = self.head(hidden, token_ids[scored])
        return torch.zeros_like(scored, dtype=torch.float32).masked_scatter(scored, logprobs)


class Head(nn.Module):
    """The model's output layer, applied to log-probabilities.

    A module with the layer's own parameters, so that ZeRO-3 gathers them while it runs, forward and backward.
    """

    def __init__(self, layer: nn.Linear, cap: float | None) -> None:
        super().__init__()
        self.weight, self.bias, self._cap = layer.weight, layer.bias, cap

    def forward(self, hidden: Tensor, token_ids: Tensor) -> Tensor:
        result: Tensor = LinearLogprobs.apply(hidden, self.weight, self.bias, token_ids, self._cap)
        return result


class LinearLogprobs(torch.autograd.Function):
    """log softmax(cap tanh((h W' + b) / cap)) at given tokens. h: (n, hidden), W: (vocabulary, hidden), tokens: (n,).

    Returns (n,) float32. Logits are computed in the dtype of h, all else in float32. No cap: None.
    Each slice's rows of the gradient of W are computed once and whole, so slicing costs no precision.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, tokens: Tensor, cap: float | None
    ) -> Tensor:
        normalizer = hidden.new_full((len(hidden),), -torch.inf, dtype=torch.float32)
        picked = torch.zeros_like(normalizer)
        for part in _slices(hidden, weight):
            logits = _logits(hidden, weight, bias, part, cap)
            normalizer = torch.logaddexp(normalizer, logits.logsumexp(-1))
            inside, column = _columns(tokens, part)
            picked = torch.where(inside, logits.gather(1, column).squeeze(1), picked)
        ctx.save_for_backward(hidden, weight, bias, tokens, normalizer)
        ctx.cap = cap
        return picked - normalizer

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        hidden, weight, bias, tokens, normalizer = ctx.saved_tensors
        of_hidden = torch.zeros_like(hidden, dtype=torch.float32)
        _, trained, bias_trained, *_ = ctx.needs_input_grad  # not, where only an adapter is
        of_weight = torch.empty_like(weight) if trained else None
        of_bias = torch.empty_like(bias) if bias_trained else None
        for part in _slices(hidden, weight):
            logits = _logits(hidden, weight, bias, part, ctx.cap)
            slope = None if ctx.cap is None else 1 - (logits / ctx.cap) ** 2
            of_logits = logits.sub_(normalizer[:, None]).exp_().mul_(-gradient[:, None])
            inside, column = _columns(tokens, part)
            of_logits.scatter_add_(1, column, (inside * gradient)[:, None])
            if slope is not None:
                of_logits *= slope
            if of_bias is not None:
                of_bias[part] = of_logits.sum(0)
            rounded = of_logits.to(hidden.dtype)
            of_hidden += rounded @ weight[part]
            if of_weight is not None:
                torch.mm(rounded.T, hidden, out=of_weight[part])
        return of_hidden.to(hidden.dtype), of_weight, of_bias, None, None


def _slices(hidden: Tensor, weight: Tensor) -> Iterator[slice]:
    width = max(1, logit_slice(hidden.is_cuda) // max(1, len(hidden)))
    for start in range(0, len(weight), width):
        yield slice(start, min(start + width, len(weight)))


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, part: slice, cap: float | None) -> Tensor:
    logits = hidden @ weight[part].T
    if bias is not None:
        logits += bias[part]
    # Capped in the dtype of the product, as in Transformers and vLLM: without that rounding the log-probabilities would
    # differ more from the sampler's.
    return (logits if cap is None else logits.div_(cap).tanh_().mul_(cap)).float()


def _columns(tokens: Tensor, part: slice) -> tuple[Tensor, Tensor]:
    """Of each row: whether its token lies in a slice of the vocabulary, and its column there (any, where it does not)."""
    # No indexing by a mask, for which a GPU would wait for its host in every slice.
    inside = (tokens >= part.start) & (tokens < part.stop)
    return inside, (tokens - part.start).clamp(0, part.stop - part.start - 1)[:, None]


def token_logprobs(logits: Tensor, token_ids: Tensor) -> Tensor:
    """log pi of each token given those before it, the plain way: logits (batch, length, vocabulary), ids (batch, length).

    Position t is scored by the logits at t - 1; position 0, which nothing precedes, is 0. Tests and benches compare with it.
    """
    scored = -F.cross_entropy(logits[:, :-1].float().transpose(1, 2), token_ids[:, 1:], reduction="none")
    return F.pad(scored, (1, 0))

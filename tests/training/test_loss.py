"""The loss against numbers worked by hand, a NumPy version, and the release's formula; token log-probabilities."""

import numpy as np
import pytest
import torch

from sppo_ray.loss import LOSSES, sppo_loss
from sppo_ray.preference import select_pair, win_rates
from sppo_ray.training import logprobs as scoring
from sppo_ray.training.logprobs import LinearLogprobs, token_logprobs


def test_by_hand():
    """eta 4, w 3/4: the target is 1; a = 3 is off by 2, so the loss is 2. At the target it is 0."""
    losses = sppo_loss(torch.tensor([3.0, 1.0, 0.0]), torch.tensor([0.75, 0.75, 0.25]), eta=4)
    torch.testing.assert_close(losses, torch.tensor([2.0, 0.0, 0.5]))


def test_a_loss_of_a_hundred_thousand_is_normal():
    """At eta 1000, before the first step (a = 0), a pair with w = 0.95 and 0.05 costs 2 x 450^2 / 2 = 202,500."""
    losses = sppo_loss(torch.zeros(2), torch.tensor([0.95, 0.05]), eta=1000)
    assert losses.sum().item() == pytest.approx(202_500)


def test_gradient_is_the_distance_to_the_target():
    log_ratio = torch.tensor([3.0], requires_grad=True)
    sppo_loss(log_ratio, torch.tensor([0.75]), eta=4).sum().backward()
    assert log_ratio.grad is not None and log_ratio.grad.item() == pytest.approx(2.0)


@pytest.mark.parametrize("loss", ["sppo", "sppo_single", "sppo_hard"])
@pytest.mark.parametrize("estimator", ["pairwise", "pooled"])
@pytest.mark.parametrize("size", [2, 3, 5, 8])
def test_a_pair_s_loss_is_the_release_s(size, estimator, loss):
    """((a_w - eta (p_w - 1/2))^2 + (a_l - eta (p_l - 1/2))^2) / 2, from the judge's logits on, in loops."""
    random = np.random.default_rng(size)
    eta, logits, log_ratios = 1000.0, random.normal(size=(6, size, size)), random.normal(scale=30, size=(6, 2))
    rates, (chosen, rejected) = win_rates(logits, estimator), select_pair(logits, estimator)
    for row in range(6):
        margins = [[logits[row, i, j] - logits[row, j, i] for j in range(size)] for i in range(size)]
        if estimator == "pooled":
            scores = [sum(values) / size for values in margins]
            margins = [[scores[i] - scores[j] for j in range(size)] for i in range(size)]
        single = 1 / (1 + np.exp(-margins[chosen[row]][rejected[row]]))
        targets = LOSSES[loss].targets((rates[row, chosen[row]], rates[row, rejected[row]]), single)
        if loss == "sppo_single":
            expected = (log_ratios[row, 0] - eta * (single - 0.5)) ** 2 + (
                log_ratios[row, 1] + eta * (single - 0.5)
            ) ** 2
        else:
            expected = sum((a - eta * (w - 0.5)) ** 2 for a, w in zip(log_ratios[row], targets, strict=True))
        found = sppo_loss(torch.tensor(log_ratios[row]), torch.tensor(targets, dtype=torch.float64), eta=eta).sum()
        assert found.item() == pytest.approx(expected / 2, rel=1e-6)


def test_any_shape():
    found = sppo_loss(torch.ones(2, 3, 4), torch.full((2, 3, 4), 0.5), eta=7)
    torch.testing.assert_close(found, torch.full((2, 3, 4), 0.5))


def test_token_logprobs_are_of_the_token_that_follows():
    """Two tokens, logits ln 3 against 0: 3/4 and 1/4."""
    ln3 = float(np.log(3))
    logits = torch.tensor([[[ln3, 0.0], [0.0, ln3], [5.0, -5.0]]])
    found = token_logprobs(logits, torch.tensor([[1, 0, 0]]))
    torch.testing.assert_close(found, torch.tensor([[0.0, np.log(0.75), np.log(0.25)]], dtype=torch.float32))


def test_token_logprobs_agree_with_a_log_softmax():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 7, 11, generator=generator)
    ids = torch.randint(11, (3, 7), generator=generator)
    expected = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
    found = token_logprobs(logits, ids)
    assert (found[:, 0] == 0).all()
    torch.testing.assert_close(found[:, 1:], expected)


def test_token_logprobs_of_bfloat16_logits_are_summed_in_float32():
    logits = torch.randn(1, 5, 9, generator=torch.Generator().manual_seed(1)).bfloat16()
    ids = torch.arange(5)[None]
    found = token_logprobs(logits, ids)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, token_logprobs(logits.float(), ids))


def head(cap: float | None, bias: bool, dtype: torch.dtype = torch.float32) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Hidden states of 7 tokens, an output layer for 23, and the tokens' log-probabilities by a plain log-softmax."""
    chance = torch.Generator().manual_seed(0)
    shapes = [(7, 5), (23, 5)] + ([(23,)] if bias else [])
    given = [torch.randn(shape, generator=chance).to(dtype).requires_grad_() for shape in shapes]
    logits = torch.nn.functional.linear(*given)
    if cap is not None:
        logits = torch.tanh(logits / cap) * cap
    return given, logits.float().log_softmax(-1)[range(7), TOKENS]


TOKENS = [0, 3, 3, 22, 11, 7, 1]


@pytest.mark.parametrize("elements", [1 << 20, 50])  # one slice of the vocabulary; slices of seven and a rest of two
@pytest.mark.parametrize("cap", [None, 3.0])
@pytest.mark.parametrize("bias", [False, True])
def test_sliced_logprobs_and_gradients_are_the_plain_ones(monkeypatch, elements, cap, bias):
    monkeypatch.setattr(scoring, "logit_slice", lambda on_gpu: elements)
    given, expected = head(cap, bias)
    found = LinearLogprobs.apply(*given, *([] if bias else [None]), torch.tensor(TOKENS), cap)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    weights = torch.linspace(-1, 2, 7)
    for mine, plain in zip(
        torch.autograd.grad(found @ weights, given), torch.autograd.grad(expected @ weights, given), strict=True
    ):
        torch.testing.assert_close(mine, plain, rtol=1e-5, atol=1e-5)


def test_sliced_logprobs_of_bfloat16_are_normalised_in_float32(monkeypatch):
    monkeypatch.setattr(scoring, "logit_slice", lambda on_gpu: 50)
    given, expected = head(3.0, False, torch.bfloat16)
    found = LinearLogprobs.apply(*given, None, torch.tensor(TOKENS), 3.0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)

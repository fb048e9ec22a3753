"""Soft-capped attention without stored scores: `policy.attention=flex_attention` is Transformers' eager Gemma 2.

On a CPU the operator has a backward pass only without its kernel, and torch refuses it for that reason.
"""

import pytest
import torch
from torch.nn.attention import flex_attention as torch_flex
from transformers import Gemma2Config, Gemma2ForCausalLM, masking_utils
from transformers.integrations import flex_attention

from sppo_ray.training.logprobs import Scorer

LENGTHS = [37, 21, 9]  # of rows, padded to the longest; the window of every second layer is 8


@pytest.fixture(autouse=True)
def on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator as it is traced, without a kernel."""
    traced = torch.compile(torch_flex.flex_attention, backend="aot_eager")
    monkeypatch.setattr(
        flex_attention, "compile_friendly_flex_attention", lambda *args, training, **kwargs: traced(*args, **kwargs)
    )
    mask = masking_utils.create_block_mask
    monkeypatch.setattr(masking_utils, "create_block_mask", lambda _compile, **kwargs: mask(**kwargs))
    monkeypatch.setattr(torch_flex, "_validate_device", lambda *_: None)


def scored(attention: str, dtype: torch.dtype) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Log-probabilities of all tokens but the first of each row, and the gradients of their sum."""
    torch.manual_seed(0)
    shape = {
        "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 16, "initializer_range": 0.3, "query_pre_attn_scalar": 16,
        "sliding_window": 8, "attn_logit_softcapping": 2.0,
    }  # fmt: skip
    network = Gemma2ForCausalLM(Gemma2Config(**shape, attn_implementation=attention)).to(dtype)
    network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    network.train()
    token_ids = torch.randint(0, 64, (len(LENGTHS), max(LENGTHS)))
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    logprobs = Scorer(network)(token_ids, mask.long(), mask & (torch.arange(max(LENGTHS)) > 0))
    logprobs.sum().backward()
    return logprobs, {name: parameter.grad for name, parameter in network.named_parameters()}


def test_log_probabilities_and_gradients_are_those_of_eager_attention() -> None:
    (expected, gradients), (found, own) = (
        scored(attention, torch.float32) for attention in ("eager", "flex_attention")
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    for name, gradient in gradients.items():
        torch.testing.assert_close(own[name], gradient, atol=1e-5 * gradient.abs().max().item(), rtol=0, msg=name)
    uncapped, _ = scored("sdpa", torch.float32)
    assert (uncapped - expected).abs().max() > 0.1  # the cap matters here


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_it_is_no_farther_from_float32_than_eager_attention(dtype: torch.dtype) -> None:
    exact, _ = scored("eager", torch.float32)
    theirs, ours = ((scored(attention, dtype)[0] - exact).abs().mean() for attention in ("eager", "flex_attention"))
    assert 0 < ours < 1.2 * theirs

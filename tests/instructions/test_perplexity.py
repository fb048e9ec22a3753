"""Perplexity against numbers worked by hand."""

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from sppo_ray.instructions import perplexity
from sppo_ray.playground import Playground


def bigrams(probabilities: list[list[float]]) -> LlamaForCausalLM:
    """A model without layers: row i has the probabilities of what follows token i."""
    size = len(probabilities)
    settings = {
        "vocab_size": size,
        "hidden_size": size,
        "num_hidden_layers": 0,
        "num_attention_heads": 1,
        "head_dim": 2,
    }
    network = LlamaForCausalLM(LlamaConfig(**settings, rms_norm_eps=0.0))
    network.model.embed_tokens.weight = nn.Parameter(torch.eye(size))  # the norm makes it sqrt(size) times as long
    network.lm_head.weight = nn.Parameter(torch.tensor(probabilities).log().T / size**0.5)
    return network.eval()


def test_perplexity_is_the_inverse_of_the_tokens_geometric_mean_probability() -> None:
    network = bigrams([[1 / 4, 1 / 2, 1 / 8, 1 / 8], [1 / 4, 1 / 4, 1 / 8, 3 / 8], [1 / 4] * 4, [1 / 4] * 4])
    assert perplexity.perplexity(network, [0, 1, 2]) == pytest.approx(4.0)  # (1/2 * 1/8) ** (-1/2)
    assert perplexity.perplexity(network, [0, 1, 2, 3]) == pytest.approx(4.0)  # and a quarter
    assert perplexity.perplexity(network, [2, 0, 1]) == pytest.approx(8**0.5)


def test_a_model_that_knows_nothing_is_as_perplexed_as_its_vocabulary_is_large(
    playground: Playground, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(playground.policy)
    tokenizer.save_pretrained(tmp_path)
    size = len(tokenizer)
    bigrams([[1 / size] * size] * size).save_pretrained(tmp_path)
    assert perplexity.page_perplexity(str(tmp_path)) == pytest.approx(size, rel=1e-4)
    perplexity.main([str(tmp_path), str(tmp_path)])
    assert capsys.readouterr().out.splitlines()[1] == f"{size:.2f}  1.000  {tmp_path}"

"""Perplexity on plain text: whether a policy still writes English, whatever the judge says.

    python -m sppo_ray.instructions.perplexity MODEL [MODEL ...]

In: folders of models or adapters, or hub names. Out: each one's perplexity per token of a page of public-domain prose, and its
ratio to the first one's.
page.txt is the beginning of "Alice's Adventures in Wonderland" (1865), by Lewis Carroll.
"""

import sys
from math import exp
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from sppo_ray.run_folder.adapters import base_of

PAGE = Path(__file__).with_name("page.txt")


def perplexity(network: PreTrainedModel, token_ids: list[int]) -> float:
    """exp of the mean of -log pi(token | those before it), over all tokens but the first."""
    ids = torch.tensor([token_ids])
    with torch.inference_mode():
        return exp(network(input_ids=ids, labels=ids).loss.item())


def page_perplexity(model: str) -> float:
    """In float32, whatever the dtype of its files; as much of the page as the model holds."""
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    token_ids = AutoTokenizer.from_pretrained(base_of(model))(PAGE.read_text("utf-8"))["input_ids"]
    return perplexity(network, token_ids[: network.config.max_position_embeddings])


def main(models: list[str]) -> None:
    if not models:
        sys.exit((__doc__ or "").strip())
    found = [page_perplexity(model) for model in models]
    for model, value in zip(models, found, strict=True):
        print(f"{value:.2f}  {value / found[0]:.3f}  {model}")


if __name__ == "__main__":
    main(sys.argv[1:])

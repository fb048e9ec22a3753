"""How far an engine's log-probabilities are from those of a network in plain PyTorch."""

from typing import Any

import torch
from transformers import AutoModelForCausalLM

from sppo_ray.records import Candidates
from sppo_ray.training.logprobs import token_logprobs


def network_of(model: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16, attn_implementation="eager")


def mismatch(network: Any, rows: list[Candidates]) -> float:
    """Mean absolute difference between the engine's log-probabilities in `rows` and the network's on the same tokens."""
    differences = []
    for row in rows:
        for ids, logprobs in zip(row.token_ids, row.logprobs, strict=True):
            tokens = torch.tensor([row.prompt_token_ids + ids])
            with torch.inference_mode():
                scored = token_logprobs(network(input_ids=tokens).logits, tokens)[0, len(row.prompt_token_ids) :]
            differences.append((scored - torch.tensor(logprobs)).abs())
    return torch.cat(differences).mean().item()

"""The small policy: Gemma-2's architecture, trained on answers of mixed quality.

In: settings, training prompts, a folder. Out: a Hugging Face model folder in bfloat16 with its tokenizer.
"""

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, Gemma2Config, Gemma2ForCausalLM, GenerationConfig, PreTrainedTokenizerBase

from sppo_ray.playground.answers import mixed_answer
from sppo_ray.playground.lessons import corpus
from sppo_ray.playground.settings import PlaygroundSettings
from sppo_ray.playground.tokenizer import POLICY_TOKENS, save_policy_tokenizer
from sppo_ray.playground.world import tasks

BATCH = 32
LEARNING_RATE = 3e-3
IGNORED = -100


def train_policy(settings: PlaygroundSettings, prompts: list[str], folder: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(settings.seed)
    rng = random.Random(settings.seed)
    save_policy_tokenizer(corpus(prompts, rng), folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = new_model(tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=settings.policy_steps + 1, pct_start=0.1
    )
    batches = mixed_batches(tokenizer, prompts, rng)
    for step in range(1, settings.policy_steps + 1):
        ids, labels, mask = next(batches)
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 100 == 0 or step == settings.policy_steps:
            print(f"policy step {step}/{settings.policy_steps} loss {loss.item():.2f}", flush=True)
    model.bfloat16().save_pretrained(folder)


def new_model(tokenizer: PreTrainedTokenizerBase) -> Gemma2ForCausalLM:
    pad, eos, bos, _, _, end_of_turn = (tokenizer.convert_tokens_to_ids(token) for token in POLICY_TOKENS)
    shape: dict[str, Any] = dict(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        # Both default to 256, and vLLM's CPU kernels know no head smaller than 32.
        head_dim=32,
        query_pre_attn_scalar=32,
        sliding_window=32,
        max_position_embeddings=4096,
        # With the usual 0.02 a model this narrow learns to ignore the prompt.
        initializer_range=0.1,
        pad_token_id=pad,
        bos_token_id=bos,
        eos_token_id=eos,
        attn_implementation="eager",
    )
    model = Gemma2ForCausalLM(Gemma2Config(**shape))
    model.generation_config = GenerationConfig(
        pad_token_id=pad, bos_token_id=bos, eos_token_id=[eos, end_of_turn], do_sample=True
    )
    return model


def encode(tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str) -> tuple[list[int], int]:
    """Token ids of the conversation, and the number of them that belong to the prompt."""
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
    )
    head = tokenizer.encode(text, add_special_tokens=False)
    tail = tokenizer.encode(f"{answer}<end_of_turn>", add_special_tokens=False)
    return head + tail, len(head)


def mixed_batches(
    tokenizer: PreTrainedTokenizerBase, prompts: list[str], rng: random.Random
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Endless batches of prompts with fresh mixed answers: padded token ids, labels on answer tokens only, attention mask."""
    while True:
        order = rng.sample(prompts, len(prompts))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            texts = [(prompt, mixed_answer(tasks()[prompt], rng)) for prompt in order[start : start + BATCH]]
            rows = [encode(tokenizer, prompt, answer) for prompt, answer in texts]
            longest = max(len(ids) for ids, _ in rows)
            ids = torch.zeros(len(rows), longest, dtype=torch.long)
            labels = torch.full_like(ids, IGNORED)
            mask = torch.zeros_like(ids)
            for row, (tokens, prompt_length) in enumerate(rows):
                ids[row, : len(tokens)] = torch.tensor(tokens)
                labels[row, prompt_length : len(tokens)] = torch.tensor(tokens[prompt_length:])
                mask[row, : len(tokens)] = 1
            yield ids, labels, mask


if __name__ == "__main__":
    train_policy(
        PlaygroundSettings.from_json(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text("utf-8")), Path(sys.argv[3])
    )

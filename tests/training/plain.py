"""The same steps in one process with PyTorch alone, and the cases in which the trainer is held against them."""

from dataclasses import replace
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from sppo_ray.config import Config, load_config
from sppo_ray.loss import find_loss, pair_loss
from sppo_ray.records import Pair, Response
from sppo_ray.training.logprobs import token_logprobs

STEPS = 5
# Model and settings of each pair of steps. Responses of 5 to 12 tokens: a budget of 23 gives the two workers 4 and 2 passes.
CASES = {
    "one pair per pass": ("gemma2", ["training.micro_batch_size=1"]),
    "budget of tokens": (
        "gemma2",
        ["training.micro_batch_tokens=23", "training.gradient_checkpointing=true", "training.loss=sppo_single"],
    ),
    "restarted": (
        "gemma2",
        ["training.micro_batch_size=2", "training.loss=sppo_hard"],
    ),  # from a checkpoint, between the steps
    "untied head": ("llama", ["training.micro_batch_size=3"]),
    "ipo": ("llama", ["training.loss=ipo", "training.micro_batch_tokens=40"]),
    "rebel": ("llama", ["training.loss=rebel", "training.micro_batch_size=2", "training.weight_decay=0.1"]),
    "offloaded optimizer": ("gemma2", ["training.offload=optimizer", "training.micro_batch_tokens=23"]),
    "offloaded weights": ("llama", ["training.offload=all", "training.micro_batch_size=2"]),
    "adapter": ("adapter", ["training.adapter.rank=4", "training.adapter.alpha=8", "training.micro_batch_size=2"]),
    "compiled": (
        "gemma2",
        ["training.compile=true", "training.gradient_checkpointing=true", "training.micro_batch_tokens=23"],
    ),
    "compiled adapter": (
        "adapter",
        ["training.adapter.rank=4", "training.adapter.alpha=8", "training.compile=true", "training.micro_batch_size=2"],
    ),
    "dpo": (
        "llama",
        [
            "training.loss=dpo",
            "training.eta=10",
            "training.optimizer=adamw",
            "training.betas=[0.8, 0.9]",
            "training.weight_decay=0.1",
            "training.schedule=cosine",
        ],
    ),
    "restarted adapter": (
        "adapter",
        [
            "training.adapter.rank=4",
            "training.adapter.alpha=8",
            "training.optimizer=adamw",
            "training.betas=[0.8, 0.9]",
        ],
    ),
}


def several_updates() -> None:
    """Have each step update these tiny models in several parts, as it updates a large one."""
    from sppo_ray.training import zero_settings

    zero_settings.sub_group = lambda on_gpu: 2000


def a_pair(number: int) -> Pair:
    chance = torch.Generator().manual_seed(number)

    def response(length: int, win_rate: float) -> Response:
        ids = torch.randint(3, 64, (length,), generator=chance).tolist()
        return Response(ids, [-4.0 - 0.01 * n for n in range(length)], win_rate, anchor_gap=win_rate - length / 10)

    prompt = torch.randint(3, 64, (2 + number % 3,), generator=chance).tolist()
    return Pair(f"p{number}", prompt, response(3 + number, 0.9), response(7 - number, 0.2))


PAIRS = [a_pair(number) for number in range(5)]
FILLER = Pair("", [0], Response([0], [0.0], 0.5), Response([0], [0.0], 0.5), weight=0.0)


PREFERENCE = 0.8  # P[chosen, rejected]


def with_targets(pairs: list[Pair], config: Config) -> list[Pair]:
    """The pairs with the targets of the loss, as `judging.pair` makes them."""
    targets = find_loss(config.training.loss).targets
    found = []
    for pair in pairs:
        rates = pair.chosen.win_rate, pair.rejected.win_rate
        chosen, rejected = targets(rates, PREFERENCE) if targets and pair.weight else rates
        found.append(
            replace(
                pair, chosen=replace(pair.chosen, win_rate=chosen), rejected=replace(pair.rejected, win_rate=rejected)
            )
        )
    return found


def configuration(case: str) -> Config:
    return load_config(
        overrides=[
            "policy.dtype=float32",
            "training.batch_size=6",
            "training.micro_batch_size=8",
            "training.learning_rate=1e-4",  # RMSprop turns rounding into a step wherever a gradient is near 0
            "training.reference_tolerance=100",
            *CASES[case][1],
        ]
    )


def plain_steps(
    model: Path, config: Config, count: int, warmup: int = 1
) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    """The same steps in one process with PyTorch alone: every response on its own, no padding, no sharding."""
    adapted = config.training.adapter.rank > 0
    base = model.parent / "llama" if adapted else model
    network = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
    if adapted:
        network = PeftModel.from_pretrained(network, model, is_trainable=True)
    rate, decay = config.training.learning_rate, config.training.weight_decay
    schedules = {"linear": get_linear_schedule_with_warmup, "cosine": get_cosine_schedule_with_warmup}
    if config.training.optimizer == "adamw":
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(
            network.parameters(), lr=rate, betas=(0.8, 0.9), weight_decay=decay
        )
    else:
        optimizer = torch.optim.RMSprop(network.parameters(), lr=rate, alpha=0.99, eps=1e-8, weight_decay=decay)
    schedule = schedules[config.training.schedule](optimizer, warmup, STEPS if warmup else 1)
    numbers = []
    for _ in range(count):
        loss = torch.zeros(())
        for pair in PAIRS:
            log_ratios = []
            for response in (pair.chosen, pair.rejected):
                ids = torch.tensor([pair.prompt_token_ids + response.token_ids])
                scored = token_logprobs(network(input_ids=ids).logits, ids)[0, len(pair.prompt_token_ids) :]
                log_ratios.append((scored.sum() - sum(response.reference_logprobs) - response.anchor_gap)[None])
            rates = [torch.tensor([response.win_rate]) for response in (pair.chosen, pair.rejected)]
            name, eta = config.training.loss, config.training.eta
            sure = torch.tensor([PREFERENCE])
            loss = loss + pair_loss(*log_ratios, loss=name, eta=eta, win_rates=rates, preference=sure).sum()
        loss = loss / len(PAIRS)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), config.training.max_grad_norm)
        numbers.append({"loss": loss.item(), "gradient_norm": norm.item(), "learning_rate": schedule.get_last_lr()[0]})
        optimizer.step()
        schedule.step()
    trained = ((name, p) for name, p in network.named_parameters() if p.requires_grad)
    return {name.replace(".default.", "."): p for name, p in trained}, numbers

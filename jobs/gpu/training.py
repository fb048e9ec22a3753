"""Optimizer steps of Gemma-2-9B under ZeRO-3 in one process."""

import os
import time
from pathlib import Path
from typing import Any

import torch

from jobs.gpu import PEAK, synchronize
from jobs.gpu.models import random_gemma
from sppo_ray.config import load_config
from sppo_ray.planning.memory import GIB
from sppo_ray.planning.rates import TRAIN_SHARE
from sppo_ray.records import Pair, Response

EMBEDDING, LAYER = 0.92e9, 0.198e9  # parameters
STATES = 12  # bytes per parameter: weights, gradients, float32 weights and RMSprop's mean
TOKENS, STEPS = 1024, 4  # of a response with its prompt; optimizer steps, of which the first is not counted


def training(folder: Path, tiny: bool, device: torch.device, attention: str, compiled: bool = False) -> dict[str, Any]:
    """8 pairs of 1,024 tokens per step, the optimizer on the device. Of Gemma-2-9B's 42 layers as many as fit."""
    from sppo_ray.training.policy import TrainablePolicy

    layers = None
    if device.type == "cuda" and not tiny:
        room = 0.75 * torch.cuda.get_device_properties(device).total_memory / STATES
        layers = min(42, int((room - EMBEDDING) / LAYER))
        torch.cuda.reset_peak_memory_stats()
    model, parameters = random_gemma(folder, tiny, device, layers)
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29533"}
    length, each = (16, 2) if tiny else (TOKENS, 8)
    settings = ["training.workers=1", f"training.batch_size={each}", f"training.micro_batch_size={each}",
                "training.reference_tolerance=1e9", "training.learning_rate=5e-7", "training.gradient_checkpointing=true",
                f"training.micro_batch_tokens={8 * length}", f"policy.attention={attention}", "policy.dtype=bfloat16",
                f"training.compile={str(compiled).lower()}",
                f"training.gpus={int(device.type == 'cuda')}"]  # fmt: skip
    response = Response(list(range(3, length // 2 + 3)), [-12.0] * (length // 2), 0.9)
    pairs = [Pair(str(n), [2] * (length // 2), response, response) for n in range(each)]
    if not torch.distributed.is_initialized():  # DeepSpeed keeps the first group
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    policy = TrainablePolicy(load_config(overrides=settings), str(model), STEPS, device)
    began = time.monotonic()
    first = policy.step(pairs)
    synchronize(device)
    started = time.monotonic()
    for _ in range(STEPS - 1):
        policy.step(pairs)
    synchronize(device)
    rate = (STEPS - 1) * 2 * each * length / (time.monotonic() - started)
    policy.close()
    return {
        "parameters": parameters,
        "model": model.name,
        "first log-ratio": first.chosen_log_ratio,  # the same for all ways, but for rounding
        "seconds of the first step": started - began,  # kernels are compiled in it
        "tokens/s": rate,
        "mfu (6N)": 6 * parameters * rate / PEAK,
        "share of the peak (8N, with recomputing)": 8 * parameters * rate / PEAK,
        "share in the plan": TRAIN_SHARE,
        "goal of mfu": 0.45,
        "public": "MFU 0.33 to 0.39, 5,762 to 6,667 tokens/s (torchtitan: Llama-3.1-8B, FSDP, bf16, 8 x H100); "
        "0.41, 12,473 tokens/s (NeMo Automodel: Llama-3-8B, LoRA, one H100)",
        "peak GiB": torch.cuda.max_memory_allocated() / GIB if device.type == "cuda" else None,
    }

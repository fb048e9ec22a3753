"""Sampling five responses per prompt from Gemma-2-9B: this project's generator, and vLLM's engine by itself.

    python -m jobs.gpu.sampling FOLDER [--tiny]

A process of its own, as a generator has: it ends with the memory that vLLM took. Its last line is JSON.
"""

import json
import random
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from jobs.benchmarks._bare_engine import BareEngine
from jobs.gpu.models import add_tokenizer, random_gemma
from sppo_ray.config import Config, load_config
from sppo_ray.planning.devices import device as planned_device
from sppo_ray.planning.memory import GIB
from sppo_ray.planning.rates import table_rates
from sppo_ray.planning.work import PROMPT_TOKENS, work
from sppo_ray.records import Prompt, Snapshot

PROMPTS, RESPONSE_TOKENS = 400, 128  # so many that a pass of one response each fills an engine's batch, too


def sampling(folder: Path, tiny: bool, device: torch.device) -> dict[str, Any]:
    """Response tokens per second of five responses in one request, here and by vLLM alone, and of five passes of one."""
    if find_spec("vllm") is None:
        return {"left out": "vllm not installed"}
    model, parameters = random_gemma(folder, tiny, device)
    add_tokenizer(model)
    command = [sys.executable, "-m", "jobs.gpu.sampling", str(model), *(["--tiny"] if tiny else [])]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    rates = json.loads(done.stdout.splitlines()[-1])
    return {
        "parameters": parameters,
        **rates,
        "to bare vLLM": rates["tokens/s"] / rates["bare vLLM, tokens/s"],
        "goal of that": 0.95,
        "to five passes": rates["tokens/s"] / rates["five passes, tokens/s"],
        "goal of five passes": 1.5,
        "public": "5,777 tokens/s (vLLM, offline: Llama-3.1-8B in FP8, one H100)",
    }


def measure(model: str, tiny: bool) -> dict[str, Any]:
    from sppo_ray.sampling import VLLMGenerator

    chance = random.Random(0)
    count, length, tokens = (4, 8, 8) if tiny else (PROMPTS, PROMPT_TOKENS, RESPONSE_TOKENS)
    config = load_config(overrides=[
        f"policy.model={model}", "policy.dtype=bfloat16", f"policy.max_prompt_length={length}",
        f"generation.max_new_tokens={tokens}", f"prompts.limit={count}", "iterations=1", "prompts.source=prompts.jsonl",
    ])  # fmt: skip
    prompts = [Prompt(str(n), "", [2, *(chance.randrange(4, 500) for _ in range(length - 1))]) for n in range(count)]
    each, first = config.generation.candidates, prompts[: max(1, count // 10)]  # warms up
    snapshot = Snapshot(0, model)
    generator = VLLMGenerator(config, snapshot, [1])
    generator.generate(first, each, snapshot.name)
    started = time.perf_counter()
    rows = generator.generate(prompts, each, snapshot.name)
    seconds = time.perf_counter() - started
    found: dict[str, Any] = {"tokens/s": sum(len(ids) for row in rows for ids in row.token_ids) / seconds}
    found |= {"tokens/s in the plan": planned(config)} if torch.cuda.is_available() else {}
    found["prompts with two equal responses"] = sum(len(set(map(tuple, row.token_ids))) < each for row in rows)
    generator._engine.engine_core.shutdown()  # a GPU has no room for two
    bare = BareEngine(config, model, [1])
    bare.sample(first, each, 1)
    for name, (several, passes) in {"bare vLLM": (each, 1), "five passes": (1, each)}.items():
        sampled, seconds = bare.sample(prompts, several, passes)
        found[f"{name}, tokens/s"] = sampled / seconds
    return found


def planned(config: Config) -> float:
    name, memory = torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory / GIB
    like = planned_device(memory, "H100-80GB" if "H100" in name else None)
    return table_rates(config, like, work(config), 1).generate


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], "--tiny" in sys.argv)))

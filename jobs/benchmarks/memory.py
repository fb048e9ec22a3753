"""The plan's memory of a train worker against what the operating system saw, on CPU, ZeRO-3 on one and two workers.

    python -m jobs.benchmarks.memory        # all cases; a part of `make bench` measures two, with and without an adapter

Measured: the growth of a worker's resident memory, from before its policy is built to the peak of its second and third
optimizer steps (Linux counts the peak itself). The allocator is told to give large blocks back at once, so that the
growth is that of live tensors, and a small model is trained by the same code before the baseline, so that it has the libraries.
"""

import os
import re
import socket
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.benchmarks import GIVE_BACK, Ratio, close_to_one
from sppo_ray.config import Config, load_config
from sppo_ray.models import model_shape
from sppo_ray.planning.memory import Memory, micro_batch, trainer_memory

TOLERANCE = 0.15
MIB = 2**20


@dataclass(frozen=True)
class Case:
    """A model with random weights: an architecture of transformers and its shape."""

    name: str
    kind: str
    shape: dict[str, Any]
    overrides: list[str] = field(default_factory=list)
    length: int = 128

    def config(self, workers: int) -> Config:
        """A batch is one full forward pass per worker."""
        common = ["training.batch_size=2", f"training.workers={workers}", f"policy.max_length={self.length}"]
        common += ["policy.max_prompt_length=64", "training.micro_batch_size=1", "training.micro_batch_tokens=512"]
        return load_config(overrides=[*common, "training.reference_tolerance=1e9", *self.overrides])


def shape(layers: int, hidden: int, intermediate: int, vocabulary: int) -> dict[str, Any]:
    heads = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64}
    sizes = {"num_hidden_layers": layers, "hidden_size": hidden, "intermediate_size": intermediate}
    return {**heads, **sizes, "vocab_size": vocabulary}


# Of the same architecture and as many layers, so that Python's objects for its modules are there before the baseline, too.
SMALL = {"hidden_size": 64, "intermediate_size": 64, "vocab_size": 512}
CHECKPOINTED = "training.gradient_checkpointing=true"
ADAPTER = "training.adapter.rank=16"
CASES = [
    Case("gemma2, 76 M, checkpointed", "gemma2", shape(12, 512, 2048, 48000), [CHECKPOINTED]),
    Case("gemma2, 76 M, adapter", "gemma2", shape(12, 512, 2048, 48000), [CHECKPOINTED, ADAPTER]),
    Case("llama, 101 M, sdpa", "llama", shape(16, 640, 2048, 16000), [CHECKPOINTED, "policy.attention=sdpa"]),
    Case(
        "llama, 101 M, optimizer offloaded",
        "llama",
        shape(16, 640, 2048, 16000),
        [CHECKPOINTED, "training.offload=optimizer"],
    ),
    Case(
        "llama, 101 M, adapter",
        "llama",
        shape(16, 640, 2048, 16000),
        [CHECKPOINTED, "policy.attention=sdpa", ADAPTER],
    ),
    Case("llama, 101 M, adapter, all kept", "llama", shape(16, 640, 2048, 16000), ["policy.attention=sdpa", ADAPTER]),
    Case("mistral, 67 M, float32, all kept", "mistral", shape(8, 640, 2560, 16000), ["policy.dtype=float32"], 256),
]


def run(cases: list[Case] = CASES[:2]) -> list[Ratio]:
    ratios = []
    for case in cases:
        for workers in (1, 2):
            predicted, measured = compare(case, workers)
            ratio = predicted.total / measured
            parts = {name: round(size / MIB) for name, size in predicted.parts.items() if size}
            ratios.append(
                close_to_one(
                    f"planned / measured MiB: {case.name}, {workers} worker{'s' * (workers > 1)}",
                    ratio,
                    TOLERANCE,
                    "a process takes some 35 MiB beside its tensors, whatever their size, which is much of a small model's",
                    planned=round(predicted.total / MIB),
                    measured=round(measured / MIB),
                    of_it=parts,
                )
            )
            print(f"{ratios[-1].name}: {ratios[-1].ratio:.3f}", flush=True)
    return ratios


def compare(case: Case, workers: int) -> tuple[Memory, float]:
    """The plan's memory of a worker, and the largest measured peak of the workers, in bytes."""
    import torch.multiprocessing as mp

    config = case.config(workers)
    os.environ.update(GIVE_BACK, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(_port()), WORLD_SIZE=str(workers))
    with tempfile.TemporaryDirectory() as folder:
        model = str(Path(folder) / "model")
        _save(case.kind, case.shape, model)
        _save(case.kind, case.shape | SMALL, f"{model}-small")
        predicted = trainer_memory(config, model_shape(model, "policy.model"), workers, float("inf"))
        mp.spawn(_worker, (config, model, folder), nprocs=workers)
        return predicted, max(int(file.read_text()) for file in Path(folder).glob("peak-*"))


def _save(kind: str, shape: dict[str, Any], model: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = AutoConfig.for_model(kind, **shape, tie_word_embeddings=kind == "gemma2")
    AutoModelForCausalLM.from_config(settings, dtype=torch.bfloat16).save_pretrained(model)


def _worker(rank: int, config: Config, model: str, folder: str) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # DeepSpeed warns on standard output
    import torch

    from sppo_ray.training.policy import TrainablePolicy

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    pairs = [_pair(number, config) for number in range(config.training.batch_size // config.training.workers)]
    small = TrainablePolicy(config, f"{model}-small", steps=3, device=torch.device("cpu"))
    small.step(pairs)
    small.close()
    before = _status("VmRSS")
    policy = TrainablePolicy(config, model, steps=3, device=torch.device("cpu"))
    policy.step(pairs)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    policy.step(pairs)
    policy.step(pairs)
    Path(folder, f"peak-{rank}").write_text(str(_status("VmHWM") - before))
    policy.close()
    torch.distributed.destroy_process_group()


def _status(key: str) -> int:
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def _pair(number: int, config: Config) -> Any:
    from sppo_ray.records import Pair, Response

    _, length = micro_batch(config)
    response = Response(list(range(3, 2 + length)), [-1.0] * (length - 1), 0.5)
    return Pair(f"p{number}", [2], response, response)


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    run(CASES)

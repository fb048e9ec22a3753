"""Throughput of one engine of each role: from a table of devices, or measured by a probe.

In: shapes, configuration, a device. Out: `Rates`, from rooflines: a share of the device's peak arithmetic and of its
memory bandwidth. The shares are assumptions; `sppo-ray plan --probe` measures instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sppo_ray.config import Config
from sppo_ray.judging import judge_kind
from sppo_ray.models import Shape, model_shape
from sppo_ray.planning.devices import Device
from sppo_ray.planning.memory import (
    FP32,
    batch_limits,
    cache_bytes,
    generator_memory,
    micro_batch,
    number_bytes,
    trained_parameters,
)
from sppo_ray.planning.work import Work
from sppo_ray.training.optimizer import find_optimizer

# Achieved shares of the peak. Training: ZeRO-3 papers and torchtitan report 0.35 to 0.5 at this size with fused attention.
# Prefill and decode: from vLLM's benchmarks.
TRAIN_SHARE, JUDGE_SHARE, PREFILL_SHARE, DECODE_SHARE = 0.35, 0.35, 0.5, 0.6
LINK_SHARE = 0.7
HOST_LINK = 16e9  # bytes per second between a GPU and host memory (PCIe 4.0 x16); assumed
HOST_MEMORY = 25e9  # bytes per second of host memory for one worker's optimizer; assumed
NODE = 8  # GPUs with a fast link
NODE_LINK = 0.05  # TB/s between nodes (400 Gb/s, as in p4de and a3-high)
STORAGE = 1e9  # bytes per second of a shared file system, per client; assumed
ENGINE_START, TRAINER_START = 90.0, 60.0  # seconds, excluding reading weights; assumed


@dataclass(frozen=True)
class Rates:
    """Of one engine. generate: response tokens per second. judge, train: tokens per second, without padding. source: in words.

    mark: held-out responses per second that all judges compare with those of two other policies.
    """

    generate: float
    judge: float
    mark: float
    train: float
    sequences: int  # in flight on a generator
    source: str


def table_rates(config: Config, device: Device, work: Work, workers: int) -> Rates:
    """Rates from the table, at the workload's mean lengths."""
    policy = model_shape(config.policy.model, "policy.model")
    generate, sequences = _generate(config, policy, device, work.prompt, work.response)
    demands = [judge_kind(judge).demand(work.prompt, work.response) for judge in config.judges]
    judges = [judge.rate or device.teraflops * 1e12 * JUDGE_SHARE / judge.operations for judge in demands]
    train = _train(config, policy, device, work, workers)
    return Rates(generate, judges[0], marks(config, work, judges), train, sequences, f"table: {device.name}")


def marks(config: Config, work: Work, rates: Sequence[float]) -> float:
    """`Rates.mark`. rates: tokens per second of each judge of the run."""
    seconds = 0.0
    for judge, rate in zip(config.judges, rates, strict=True):
        demand = judge_kind(judge).demand(work.prompt, work.response)
        seconds += 2 * demand.tokens * (judge.orders if demand.each == "comparison" else 2) / rate
    return 1 / seconds


def _generate(config: Config, shape: Shape, device: Device, prompt: float, response: float) -> tuple[float, int]:
    """Each decoding step reads the weights and the batch's cache; prefill processes each prompt once for all its responses."""
    parallel = config.generation.tensor_parallel
    total = device.memory_gib * 2**30
    cache = generator_memory(config, shape, total).parts["kv_cache"]
    length = prompt + response / 2
    fitting = cache / (cache_bytes(config, shape) * (prompt + response))
    in_flight = config.prompts_in_flight * config.generation.candidates
    sequences = int(max(1, min(batch_limits(total)[1], in_flight, fitting)))
    read = number_bytes(config) * shape.parameters / parallel + sequences * length * cache_bytes(config, shape)
    arithmetic = 2 * shape.parameters * sequences / parallel / (device.teraflops * 1e12 * PREFILL_SHARE)
    decode = max(read / (device.bandwidth * 1e12 * DECODE_SHARE), arithmetic) / sequences
    prefill = 2 * shape.parameters * prompt / (parallel * device.teraflops * 1e12 * PREFILL_SHARE)
    return 1 / (decode + prefill / (config.generation.candidates * response)), sequences


def most_sequences(config: Config, shape: Shape, total: float, prompt: float) -> int:
    """Most responses that a generator can sample at once: as many of those in flight as its cache holds when they begin.

    Those of chats, too, which would otherwise wait for one of the run's to end.
    """
    cache = generator_memory(config, shape, total).parts["kv_cache"]
    in_flight = config.prompts_in_flight * config.generation.candidates + config.gateway.chats
    return int(max(1, min(batch_limits(total)[1], in_flight, cache / (cache_bytes(config, shape) * prompt))))


def _train(config: Config, shape: Shape, device: Device, work: Work, workers: int) -> float:
    """Tokens per second of one worker.

    Two operations per parameter and token forward, two for the gradients of activations, two for those of trained weights,
    two more with checkpointing; plus ZeRO-3's gathers, and what goes to host memory and back.
    """
    rows, length = micro_batch(config)
    size, offload, tuned = number_bytes(config), config.training.offload, trained_parameters(config, shape)
    operations = (6 if config.training.gradient_checkpointing else 4) * shape.parameters + 2 * tuned
    compute = rows * length * operations / (device.teraflops * 1e12 * TRAIN_SHARE)
    # Weights are gathered in forward and backward and gradients reduced; that some of it overlaps with the rest is left out.
    moved = size * (2 * shape.parameters + tuned) * (workers - 1) / workers
    # A forward pass adds its gradients to those in host memory; weights that are there are fetched forward and backward.
    fetched = (size * 2 * tuned if offload != "none" else 0) + (size * 2 * shape.parameters if offload == "all" else 0)
    one_pass = compute + moved / (link(device, workers) * 1e12 * LINK_SHARE) + fetched / workers / HOST_LINK
    # Of a step: the optimizer reads and writes float32 weights and states, reads gradients; the new weights go back.
    states = 2 * (1 + find_optimizer(config.training.optimizer).states) + 1
    update = (FP32 * states / HOST_MEMORY + size / HOST_LINK) * tuned / workers if offload != "none" else 0.0
    tokens_a_step = work.trained_tokens / work.steps / workers
    return 1 / (one_pass / (rows * length) + update / tokens_a_step)


def link(device: Device, workers: int) -> float:
    """TB/s between a device and the others of its group."""
    return device.link if workers <= NODE else min(device.link, NODE_LINK)

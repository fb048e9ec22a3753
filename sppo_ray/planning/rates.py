"""Throughput of one engine of each role: from a table of devices, or measured by a probe.

In: shapes, configuration, a device. Out: `Rates`, from rooflines: a share of the device's peak arithmetic and of its
memory bandwidth. The shares are assumptions; `sppo-ray plan --probe` measures instead.
"""

from dataclasses import dataclass

from sppo_ray.config import Config
from sppo_ray.judging import judge_kind
from sppo_ray.models import Shape, model_shape
from sppo_ray.planning.devices import Device
from sppo_ray.planning.memory import batch_limits, cache_bytes, generator_memory, micro_batch, number_bytes
from sppo_ray.planning.work import Work

# Achieved shares of the peak. Training: ZeRO-3 papers and torchtitan report 0.35 to 0.5 at this size with fused attention;
# Gemma 2's eager attention costs some of that. Prefill and decode: from vLLM's benchmarks.
TRAIN_SHARE, JUDGE_SHARE, PREFILL_SHARE, DECODE_SHARE = 0.35, 0.35, 0.5, 0.6
LINK_SHARE = 0.7
NODE = 8  # GPUs with a fast link
NODE_LINK = 0.05  # TB/s between nodes (400 Gb/s, as in p4de and a3-high)
STORAGE = 1e9  # bytes per second of a shared file system, per client; assumed
ENGINE_START, TRAINER_START = 90.0, 60.0  # seconds, excluding reading weights; assumed


@dataclass(frozen=True)
class Rates:
    """Of one engine. generate: response tokens per second. judge, train: tokens per second, without padding. source: in words."""

    generate: float
    judge: float
    train: float
    sequences: int  # in flight on a generator
    source: str


def table_rates(config: Config, device: Device, work: Work, workers: int) -> Rates:
    """Rates from the table, at the workload's mean lengths."""
    policy = model_shape(config.policy.model, "policy.model")
    generate, sequences = _generate(config, policy, device, work.prompt, work.response)
    judge = judge_kind(config.judge).demand(work.prompt, work.response)
    judged = device.teraflops * 1e12 * JUDGE_SHARE / judge.operations
    return Rates(generate, judged, _train(config, policy, device, workers), sequences, f"table: {device.name}")


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


def _train(config: Config, shape: Shape, device: Device, workers: int) -> float:
    """Tokens per second of one worker: 6 operations per parameter and token, 8 with checkpointing, plus ZeRO-3's gathers."""
    rows, length = micro_batch(config)
    operations = (8 if config.training.gradient_checkpointing else 6) * shape.parameters
    compute = rows * length * operations / (device.teraflops * 1e12 * TRAIN_SHARE)
    # Weights are gathered in forward and backward and gradients reduced, without overlap (overlap_comm: false).
    moved = 3 * number_bytes(config) * shape.parameters * (workers - 1) / workers
    return rows * length / (compute + moved / (link(device, workers) * 1e12 * LINK_SHARE))


def link(device: Device, workers: int) -> float:
    """TB/s between a device and the others of its group."""
    return device.link if workers <= NODE else min(device.link, NODE_LINK)

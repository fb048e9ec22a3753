"""Memory of each role on one device, in bytes by part.

In: shapes, the configuration, the number of train workers. Out: a `Memory`: its parts and the limit of the device. The role
`host` stands for the host memory that goes with one device.
The trainer's parts follow DeepSpeed 0.19's ZeRO-3 with torch's RMSprop, read from its source and measured on CPU
(docs/cluster.md); the generator's follow vLLM 0.32; the judge kind names its own.
"""

from dataclasses import dataclass

from sppo_ray.config import Config
from sppo_ray.judging import judge_kind
from sppo_ray.loss import find_loss
from sppo_ray.models import Shape, model_shape
from sppo_ray.training.optimizer import find_optimizer
from sppo_ray.training.portions import logit_slice, reduce_bucket, sub_group

GIB = 2**30
FP32 = 4

# DeepSpeed's defaults, in elements.
MAX_LIVE = 1e9  # gathered weights kept for reuse
PREFETCH = 5e7

CUDA_CONTEXT = 0.8 * GIB  # per process; assumed
NCCL = 1.0 * GIB  # buffers and channels; assumed
FRAGMENTATION = 0.05  # share of transient memory lost in PyTorch's allocator; assumed
ASLEEP = 1.5 * GIB  # left on a device by a sleeping engine: context, graphs; assumed

CUDA_GRAPHS = 1.0 * GIB  # vLLM's; assumed
HOST_PROCESSES = (
    8.0 * GIB
)  # host memory of one device's engines and train worker, apart from what is offloaded; assumed


@dataclass(frozen=True)
class Memory:
    """Bytes on one device. parts: bytes by name. limit: bytes available."""

    parts: dict[str, float]
    limit: float

    @property
    def total(self) -> float:
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        return self.total <= self.limit


def role_memory(
    config: Config, total: float, workers: int, colocated: bool, host: float = float("inf"), single: bool = False
) -> dict[str, Memory]:
    """Memory of each role on devices of `total` bytes. Colocated trainers share theirs with sleeping engines.

    host: bytes of host memory per train worker.  single: all roles share one device, so judges, too, sleep on it.
    """
    policy = model_shape(config.policy.model, "policy.model")
    lengths = config.policy.max_prompt_length, config.generation.max_new_tokens
    names = ["", "evaluation_"]
    judges = {
        f"{name}{part}": size
        for name, judge in zip(names, config.judges, strict=False)
        for part, size in judge_kind(judge).demand(*lengths).memory.items()
    }
    other = CUDA_CONTEXT if single and judges else 0.0  # left by a sleeping judge
    offloaded = trainer_states(config, policy, workers)[1]
    return {
        "generators": generator_memory(config, policy, total, total - other),
        "rankers": Memory(judges | {"runtime": CUDA_CONTEXT} if judges else {}, total - (ASLEEP if single else 0.0)),
        "trainers": trainer_memory(config, policy, workers, total, ASLEEP + other if colocated else 0.0),
        "host": Memory(offloaded | {"processes": HOST_PROCESSES}, host),
    }


def number_bytes(config: Config) -> int:
    return 2 if config.policy.dtype == "bfloat16" else FP32


def micro_batch(config: Config) -> tuple[int, int]:
    """(rows, tokens per row) of a train worker's largest forward pass, with rows of full length."""
    training, length = config.training, config.policy.max_length
    pairs = min(training.micro_batch_size, training.batch_size // training.workers)
    least = 2 if find_loss(training.loss).pairwise else 1  # a pairwise loss keeps the two rows of a pair together
    return min(2 * pairs, max(least, training.micro_batch_tokens // length)), length


def trained_parameters(config: Config, shape: Shape) -> int:
    """Parameters that have gradients: all of them, or those of the adapter."""
    adapter = config.training.adapter
    if not adapter.rank:
        return shape.parameters
    maps = [size for name, size in shape.linear.items() if adapter.targets == "all-linear" or name in adapter.targets]
    return shape.layers * adapter.rank * sum(sum(size) for size in maps)


def trainer_states(config: Config, shape: Shape, workers: int) -> tuple[dict[str, float], dict[str, float]]:
    """What a worker keeps between steps, on its device and in host memory."""
    size, own, tuned = number_bytes(config), shape.parameters / workers, trained_parameters(config, shape) / workers
    weights = {"weights": size * own}
    states = {
        "master_weights": FP32 * tuned,
        "optimizer": FP32 * tuned * find_optimizer(config.training.optimizer).states,
        "gradients": size * tuned,
    }
    offload = config.training.offload
    if offload == "none":
        return weights | states, {}
    states["gradients"] += FP32 * tuned  # DeepSpeed keeps them a second time, in float32, for the optimizer
    states["optimizer_step"] = update_bytes(config, shape, workers)
    return (weights, states) if offload == "optimizer" else ({}, weights | states)


def trainer_memory(config: Config, shape: Shape, workers: int, limit: float, asleep: float = 0.0) -> Memory:
    """A ZeRO-3 worker at the peak of an optimizer step. asleep: bytes that sleeping engines hold on its device."""
    size, on_gpu = number_bytes(config), config.training.gpus > 0
    bucket = size * reduce_bucket(trained_parameters(config, shape))
    passing = _passing(config, shape, workers, *micro_batch(config))
    here, offloaded = trainer_states(config, shape, workers)
    if offloaded:  # the optimizer steps in host memory, which without a GPU is the device's
        stepping = 0.0 if on_gpu else offloaded.pop("optimizer_step")
    else:
        stepping = update_bytes(config, shape, workers)
    parts = {
        **here,
        "gradient_bucket": bucket,
        **passing,
        "optimizer_step": max(0.0, stepping - sum(passing.values())),
    }
    if on_gpu:
        parts["fragmentation"] = FRAGMENTATION * (sum(passing.values()) + parts["optimizer_step"])
        parts["runtime"] = CUDA_CONTEXT + asleep + (NCCL if workers > 1 else 0.0)
    else:
        parts |= {name: parts.get(name, 0.0) + size for name, size in offloaded.items()}
    return Memory(parts, limit)


def update_bytes(config: Config, shape: Shape, workers: int) -> float:
    """Transient bytes of an optimizer update: the float32 gradients of its parameters and one temporary of their size.

    No tensor is divided, so the norm of the largest, which takes as much of it, is within that.
    """
    largest = 0.0 if config.training.adapter.rank else shape.embedding / workers
    at_once = max(sub_group(config.training.gpus > 0), largest)
    return 2 * FP32 * min(trained_parameters(config, shape) / workers, at_once)


def _passing(config: Config, shape: Shape, workers: int, rows: int, length: int) -> dict[str, float]:
    """Transient bytes of forward and backward at the largest of three peaks: a fetch, the loss, one layer's backward pass."""
    size, tokens = number_bytes(config), rows * length
    gathered = fetching = 0.0
    if workers > 1 or config.training.offload == "all":
        live = max(MAX_LIVE, shape.embedding + shape.layer) + PREFETCH
        gathered = size * min(shape.parameters, live)
        if workers > 1 and not config.training.gpus:
            fetching = size * min(shape.parameters, 2 * PREFETCH)  # gloo copies what is on its way
    kept, backward = layer_activations(config, shape, length)
    kept, backward = kept * tokens, backward * tokens
    if config.training.gradient_checkpointing:
        stored = float(shape.layers * size * shape.hidden * tokens)
    else:
        stored, backward = shape.layers * kept, backward - kept
    frozen = config.training.adapter.rank > 0
    at_loss = logit_bytes(config, shape, tokens) - (size * shape.embedding if frozen else 0.0)
    # The logits' gradient of a tied matrix waits for the embedding's.
    waiting = size * shape.embedding if shape.tied and not frozen else 0.0
    reducing = size * reduce_bucket(trained_parameters(config, shape)) + waiting
    activations, logits = stored + backward, waiting + max(0.0, at_loss - backward - waiting)
    return {
        "gathered": gathered,
        "activations": activations,
        "logits": logits,
        "gradient_reduction": max(0.0, reducing - activations - logits),
        "fetching": max(0.0, fetching - max(activations + logits, reducing)),
    }


def layer_activations(config: Config, shape: Shape, length: int) -> tuple[float, float]:
    """Bytes per token of one layer: kept for its backward pass, and at the peak of that pass."""
    size, h = number_bytes(config), shape.hidden
    queries, wide = shape.heads * shape.head_dim, shape.intermediate
    gemma = shape.norms == 4
    # Norms compute in float32: Gemma keeps two such tensors per norm, others one and its rounded copy.
    norms = shape.norms * h * (2 * FP32 if gemma else FP32 + size) + 2 * size * h
    scores: float
    gradients: float
    if config.trained_attention == "eager":
        scores = shape.heads * length * (FP32 + (2 if shape.capped else 1) * size)
        gradients = shape.heads * length * 2 * FP32
    else:
        scores, gradients = size * queries, 2 * size * queries
    attention = 4 * size * queries + scores + 2 * size * h
    mlp = (4 if shape.gated else 2) * size * wide
    kept = norms + attention + mlp
    return kept, max(kept + 2 * size * wide, norms + attention + gradients)


def logit_bytes(config: Config, shape: Shape, tokens: int) -> float:
    """The loss: one slice of logits with its intermediates, and the gradient of the output matrix."""
    size = number_bytes(config)
    part = min(logit_slice(config.training.gpus > 0), tokens * shape.vocabulary)
    return part * (3 * FP32 + size + (FP32 if shape.capped else 0)) + size * shape.embedding


def batch_limits(total: float) -> tuple[int, int]:
    """(tokens per step, concurrent sequences): vLLM 0.32's throughput defaults on a device of `total` bytes.

    From `EngineArgs.get_batch_defaults`, which gives an 80 GB A100 the smaller values; the plan ignores that.
    """
    return (16384, 1024) if total >= 70 * GIB else (8192, 256)


def generator_memory(config: Config, shape: Shape, total: float, free: float = float("inf")) -> Memory:
    """One device of a vLLM engine; it fits if the cache holds one sequence of full length. free: bytes that others leave."""
    generation = config.generation
    size, parallel = number_bytes(config), generation.tensor_parallel
    limit = min(free, total * generation.gpu_memory_utilization)
    tokens, sequences = batch_limits(total)
    # Sorting float32 logits: values, a copy, probabilities, 64-bit indices.
    logits = sequences * shape.vocabulary * (3 * FP32 + 8)
    parts = {
        "weights": size * shape.parameters / parallel,
        "activations": size * tokens * (4 * shape.hidden + 3 * shape.intermediate / parallel),
        "logits": logits,
        "runtime": CUDA_CONTEXT + CUDA_GRAPHS + (NCCL if parallel > 1 else 0.0),
    }
    sequence = cache_bytes(config, shape) * (config.policy.max_prompt_length + generation.max_new_tokens)
    return Memory(parts | {"kv_cache": max(sequence, limit - sum(parts.values()))}, limit)


def cache_bytes(config: Config, shape: Shape) -> float:
    """Bytes of one token's keys and values on one device."""
    heads = max(1.0, shape.kv_heads / config.generation.tensor_parallel)
    return 2 * shape.layers * heads * shape.head_dim * number_bytes(config)

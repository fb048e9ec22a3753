"""Out of memory, as the trainer's libraries say it, and the settings that need less of it.

In: an exception. Out: whether memory ran out, and what a person can change: only keys that may change on resume.
"""

import re

from sppo_ray.config import TrainingSettings

# Of PyTorch's allocators (CUDA, HIP, CPU), the CUDA driver, cuBLAS and cuDNN, NCCL, the C++ and Python runtimes, and Ray.
WORDS = re.compile(
    r"out.?of.?memory|allocate .*memory|page-locked memory|DefaultCPUAllocator|ALLOC\w*_FAILED|bad_alloc"
    r"|Failed to CUDA \w*\s?\w*alloc|running low on memory",
    re.IGNORECASE,
)


def out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or bool(WORDS.search(f"{type(error).__name__}: {error}"))


def memory_remedy(training: TrainingSettings) -> str:
    """What to change, as a sentence; each of these keeps the numbers of the run."""
    checkpointing = "" if training.gradient_checkpointing else "set training.gradient_checkpointing=true, "
    offload = "" if training.offload == "all" else "set training.offload=all, "
    return (
        f"Lower training.micro_batch_tokens ({training.micro_batch_tokens}) or training.micro_batch_size "
        f"({training.micro_batch_size}), {checkpointing}{offload}or raise training.workers ({training.workers}): "
        "the same command with one of these changes continues the run."
    )

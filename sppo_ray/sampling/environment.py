"""What vLLM reads when it is imported: the environment, and how its platform compiles.

In: the user's own values, which win. Out: values for an engine inside an actor.
"""

import os
import shutil
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def set_environment() -> bool:
    """Set what vLLM reads, before its engines are imported. Return whether there is a GPU."""
    import torch

    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    on_gpu = torch.cuda.is_available()
    if on_gpu and not has_flashinfer_sampler():
        # Otherwise vLLM 0.32 chooses it by the GPU alone, and its engine ends where it has to be compiled.
        os.environ.setdefault("VLLM_USE_FLASHINFER_SAMPLER", "0")
    if not on_gpu:
        # In the actor's own process: a child engine process takes ten times as long to start on a CPU.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        _compile_nothing()
    return on_gpu


def _compile_nothing() -> None:
    """Have vLLM run without a C++ compiler, and without the ten seconds of compiling in the first run on a machine."""
    from vllm.platforms import current_platform

    current_platform.simple_compile_backend = "eager"  # before the modules that ask for it are imported
    from vllm.v1.sample import sampler

    sampler.batched_count_greater_than = _ranks


def _ranks(x: "Tensor", values: "Tensor") -> "Tensor":
    """How many of each row of x (rows, vocabulary) are no less than its value (rows, 1). PyTorch's sum of truth values is ten times slower."""
    counts = [np.count_nonzero(row >= value) for row, value in zip(x.numpy(), values.numpy(), strict=True)]
    return values.new_tensor(counts).long()


def has_flashinfer_sampler() -> bool:
    """Whether FlashInfer's sampler was installed compiled, or can be compiled: by nvcc, where FlashInfer looks for it, and ninja."""
    if find_spec("flashinfer_jit_cache"):
        return True
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    compilers = [os.path.join(home, "bin", "nvcc")] if home else ["nvcc", "/usr/local/cuda/bin/nvcc"]
    return any(map(shutil.which, compilers)) and shutil.which("ninja") is not None

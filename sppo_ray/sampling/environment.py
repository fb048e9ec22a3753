"""What vLLM reads from the environment when it is imported.

In: the user's own values, which win. Out: values for an engine inside an actor.
"""

import os
import shutil
from importlib.util import find_spec


def set_environment() -> bool:
    """Set what vLLM reads from the environment, before it is imported. Return whether there is a GPU."""
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
    return on_gpu


def has_flashinfer_sampler() -> bool:
    """Whether FlashInfer's sampler was installed compiled, or can be compiled: by nvcc, where FlashInfer looks for it, and ninja."""
    if find_spec("flashinfer_jit_cache"):
        return True
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    compilers = [os.path.join(home, "bin", "nvcc")] if home else ["nvcc", "/usr/local/cuda/bin/nvcc"]
    return any(map(shutil.which, compilers)) and shutil.which("ninja") is not None

"""What vLLM reads from the environment when it is imported.

In: the user's own values, which win. Out: values for an engine inside an actor.
"""

import os


def set_environment() -> bool:
    """Set what vLLM reads from the environment, before it is imported. Return whether there is a GPU."""
    import torch

    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    on_gpu = torch.cuda.is_available()
    if not on_gpu:
        # In the actor's own process: a child engine process takes ten times as long to start on a CPU.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    return on_gpu

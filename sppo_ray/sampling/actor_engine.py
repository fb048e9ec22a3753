"""What every vLLM engine that an actor owns has in common.

In: the number of its devices; the engine. Out: settings for vLLM; an engine that ends with this process.
"""

import os
from collections.abc import Callable
from typing import Any

from sppo_ray.errors import EngineFailed
from sppo_ray.sampling.child import watch
from sppo_ray.sampling.worker import WorkerExtension


def actor_settings(tensor_parallel: int) -> dict[str, Any]:
    """Of `EngineArgs` and of `LLM`."""
    return {
        "tensor_parallel_size": tensor_parallel,
        # Inside an actor vLLM would otherwise ask Ray for devices that the actor already holds.
        "distributed_executor_backend": "mp" if tensor_parallel > 1 else None,
        "worker_extension_cls": f"{WorkerExtension.__module__}.{WorkerExtension.__name__}",
    }


def own(engine: Any, died: Callable[[EngineFailed], object]) -> None:
    """Have an `LLMEngine` with these settings end with this process; `died` is called from another thread if it ends before."""
    watch(engine, died)
    engine.collective_rpc(WorkerExtension.end_with.__name__, args=(os.getpid(),))
    engine.collective_rpc(WorkerExtension.remove_rendezvous.__name__)

"""DeepSpeed's settings for ZeRO-3.

In: the configuration and the worker's device. Out: what `deepspeed.initialize` takes; the environment that it reads.
"""

import os
from typing import Any

import torch

from sppo_ray.config import Config
from sppo_ray.training.portions import reduce_bucket, sub_group


def zero_settings(config: Config, device: torch.device) -> dict[str, Any]:
    beside = device.type == "cuda"  # gradients are reduced beside the backward pass, in a stream of a GPU
    return {
        "train_micro_batch_size_per_gpu": config.training.micro_batch_size,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,  # a step may have any number of micro-batches
        "zero_optimization": {
            "stage": 3,
            "overlap_comm": beside,
            "sub_group_size": sub_group(beside),
            **_offload(config.training.offload),
        },
        "zero_force_ds_cpu_optimizer": False,  # offloaded or not, the optimizer is the configured one, not DeepSpeed's Adam
        "bf16": {"enabled": config.policy.dtype == "bfloat16"},
        "gradient_clipping": config.training.max_grad_norm,
        "zero_allow_untested_optimizer": True,  # DeepSpeed's list lacks torch's RMSprop
        "steps_per_print": None,
    }


def size_bucket(settings: dict[str, Any], trained: list[torch.nn.Parameter]) -> None:
    """No larger than the gradients that there are. Known only once the model is there, and with it the adapter."""
    sizes = [getattr(parameter, "ds_numel", parameter.numel()) for parameter in trained]  # ds: of a sharded one
    settings["zero_optimization"]["reduce_bucket_size"] = reduce_bucket(sum(sizes))


def set_local_rank(device: torch.device) -> None:
    """Have DeepSpeed use this GPU: it takes the one that LOCAL_RANK numbers.

    Ray Train counts workers by their GPUs' numbers, but lists these numbers as text, "10" before "2": from eleven GPUs on, worker
    2 would take another one's.
    """
    if device.type == "cuda":
        os.environ["LOCAL_RANK"] = str(device.index or 0)


def _offload(what: str) -> dict[str, Any]:
    """DeepSpeed's settings for what is kept in host memory, pinned so that copies to a GPU are fast."""
    host = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    moved = {"none": (), "optimizer": ("optimizer",), "all": ("optimizer", "param")}[what]
    return {f"offload_{part}": host for part in moved}

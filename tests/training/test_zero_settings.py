"""What DeepSpeed is told of a worker's device."""

import os

import pytest
import ray
import torch
from ray.air._internal.device_manager.nvidia_gpu import CUDATorchDeviceManager
from ray.train.v2._internal.callbacks.accelerators import _get_visible_accelerator_ids_per_worker
from ray.train.v2._internal.execution.worker_group.worker import ActorMetadata

from sppo_ray.training.zero_settings import set_local_rank


def test_every_worker_of_a_node_with_twelve_gpus_has_deepspeed_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray Train's own functions on twelve workers, whose local ranks are in the order of their GPUs' numbers."""
    workers = [ActorMetadata("host", "node", "10.0.0.1", 1, {"GPU": [str(gpu)]}) for gpu in range(12)]
    monkeypatch.setenv("LOCAL_RANK", "")
    others = 0
    for gpu, visible in enumerate(_get_visible_accelerator_ids_per_worker(workers, "GPU")):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        monkeypatch.setattr(ray, "get_gpu_ids", lambda gpu=gpu: [gpu])
        (device,) = CUDATorchDeviceManager().get_devices()
        set_local_rank(device)
        assert visible.split(",")[int(os.environ["LOCAL_RANK"])] == str(gpu)
        others += os.environ["LOCAL_RANK"] != str(gpu)
    assert others == 10  # "0", "1", "10", "11", "2", ...: only the first two are where a number would be


def test_without_a_gpu_the_local_rank_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    set_local_rank(torch.device("cpu"))
    assert os.environ["LOCAL_RANK"] == "1"

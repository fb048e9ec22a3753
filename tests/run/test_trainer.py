"""What a training does around its workers."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend
from ray.util.placement_group import placement_group, placement_group_table

from actors.run import trainer


def test_devices_of_dead_trainers_of_this_job_are_released_wherever_ray_address_points(
    cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    group = placement_group([{"CPU": 0.1}])
    assert group.wait(30)
    with monkeypatch.context() as other:
        other.setattr(trainer.ray, "get_runtime_context", lambda: SimpleNamespace(get_job_id=lambda: "ffffffff"))
        trainer._release_devices()
    assert placement_group_table(group)["state"] == "CREATED"
    trainer._release_devices()
    ends = time.monotonic() + 30
    while placement_group_table(group)["state"] != "REMOVED":
        assert time.monotonic() < ends
        time.sleep(0.05)


class DiesWhenTheyMeet(_TorchBackend):
    """A worker that dies, the first time, before it has joined the others in their process group."""

    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        assert isinstance(backend_config, Meeting)
        if not backend_config.died.exists():
            backend_config.died.touch()
            worker_group.execute_single_async(1, os._exit, 1)
        super().on_start(worker_group, backend_config)


@dataclass
class Meeting(TorchConfig):
    died: Path = Path()

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return DiesWhenTheyMeet


def test_workers_whose_fellow_died_before_they_met_give_way_to_the_next(cluster: None, tmp_path: Path) -> None:
    # Of four CPUs: no room for two groups.
    workers = ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1.5})
    run = trainer._Trainer(
        lambda: None,
        torch_config=Meeting(backend="gloo", died=tmp_path / "died"),
        scaling_config=workers,
        run_config=RunConfig(storage_path=str(tmp_path / "train")),
    )
    # Of a trainer that died.
    left = placement_group([{"CPU": 1.5}] * 2)
    assert left.wait(30)
    run.fit()
    assert (tmp_path / "died").exists()
    assert placement_group_table(left)["state"] == "REMOVED"

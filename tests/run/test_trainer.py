"""What a training does around its workers."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import torch
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend
from ray.util.placement_group import placement_group, placement_group_table

from actors.cluster.placement import role_options
from actors.run import trainer
from sppo_ray.config import load_config
from sppo_ray.run_folder import Ledger


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


ONE_EACH = [
    "training.gpus=0",
    "training.workers=1",
    "training.cpus=1",
    "generators.gpus=0",
    "generators.cpus=1",
    "generators.max=1",
]


def test_engines_and_trainers_that_work_in_turn_have_the_cores_of_both(cluster: None, tmp_path: Path) -> None:
    config = load_config(overrides=[*ONE_EACH, "training.min_margin=0.1"])  # training waits for the last judgement
    engine = ray.remote(lambda: torch.get_num_threads()).options(**role_options(config, "generators"))
    assert ray.get(engine.remote()) == 2
    job: Any = SimpleNamespace(config=config, ledger=Ledger(tmp_path), iterations=range(1, 2), coordinator=None)

    def work() -> None:
        (tmp_path / "threads").write_text(str(torch.get_num_threads()))

    trainer._Trainer(
        work,
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
        run_config=trainer._trainer(job).run_config,
    ).fit()
    assert (tmp_path / "threads").read_text() == "2"


def test_engines_and_trainers_that_work_at_once_keep_the_threads_that_ray_gives(tmp_path: Path) -> None:
    config = load_config(overrides=[*ONE_EACH, "training.min_margin=0"])
    assert not role_options(config, "generators")["runtime_env"]
    job: Any = SimpleNamespace(config=config, ledger=Ledger(tmp_path), iterations=range(1, 2), coordinator=None)
    assert not trainer._trainer(job).run_config.worker_runtime_env

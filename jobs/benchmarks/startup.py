"""What a trainer takes until its first step, and from one iteration to the next, beside an empty `fit()` of Ray Train."""

import logging
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from actors.run.trainer import Job, fit
from jobs.benchmarks import Ratio, at_most
from sppo_ray import playground
from sppo_ray.config import load_config
from sppo_ray.fakes import FakeGenerator
from sppo_ray.records import Candidates, Judged, Prompt, Snapshot
from sppo_ray.run_folder import Ledger

PROMPTS = [Prompt(f"p{number}", f"prompt {number}", [2, 5, 9 + number]) for number in range(16)]
FIRST_GOAL, NEXT_GOAL = 2.0, 0.2  # times Ray Train's own


@ray.remote(num_cpus=0)
class Marks:
    """Stands for the coordinator: notes when the trainer calls it, by the iteration it is in."""

    def __init__(self) -> None:
        self._iteration = 1
        self._times: dict[str, float] = {}

    def mark(self, name: str, when: float) -> None:
        self._times.setdefault(f"{name} {self._iteration}", when)

    def trained(self, *_: Any) -> None:
        self.mark("first step", time.time())

    def publishing(self) -> None:
        self.mark("last step", time.time())

    def may_step(self, step: int) -> bool:
        return True

    def judged(self, *_: Any) -> None:
        pass

    def scored(self, *_: Any) -> None:
        pass

    def saving(self, *_: Any) -> None:
        pass

    def advanced(self, seconds: dict[str, float]) -> None:
        pass

    def published(self, iteration: int) -> None:
        self.mark("published", time.time())
        self._iteration = iteration + 1

    def training(self, iteration: int, pairs: int) -> None:
        pass

    def fail(self, error: Exception) -> None:
        self.mark("failed", time.time())

    def times(self) -> dict[str, float]:
        return self._times


@dataclass(frozen=True)
class TimedJob(Job):
    def pairs(self, iteration: int) -> int:  # what a train worker asks for between its imports and its policy
        self.coordinator.mark.remote("worker process", psutil.Process().create_time())
        self.coordinator.mark.remote("imports", time.time())
        return super().pairs(iteration)


def run() -> list[Ratio]:
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    ray.init(address="local", num_cpus=4, log_to_driver=False, logging_level=logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        _fit_nothing(Path(name) / "warm")  # the first one also reads the libraries from disk
        nothing = _fit_nothing(Path(name))
        parts = _fit_iterations(Path(name) / "run")
    first = sum(list(parts.values())[:3])
    seconds = {"empty": f"{nothing:.1f} s"} | {name: f"{value:.1f} s" for name, value in parts.items()}
    return [
        at_most(
            "start-up: fit() to the first step, an empty fit() = 1",
            first / nothing,
            FIRST_GOAL,
            "beside Ray Train's start the workers import DeepSpeed and Transformers' models and build the engine",
            **seconds,
        ),
        at_most(
            "start-up: a policy published to the next iteration's first step, an empty fit() = 1",
            parts["first step 2"] / nothing,
            NEXT_GOAL,
        ),
    ]


def _fit_nothing(folder: Path) -> float:
    started = time.time()
    TorchTrainer(
        _nothing,
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 0.5}),
        run_config=RunConfig(name="nothing", storage_path=str(folder)),
    ).fit()
    return time.time() - started


def _nothing() -> None:
    pass


def _fit_iterations(root: Path) -> dict[str, float]:
    """Two iterations of one trainer, whose pairs are all judged before; the seconds of each part, in their order."""
    config = load_config(overrides=["block=16", "iterations=2", "training.reference_tolerance=1e9"])
    base = Snapshot(0, str(playground.build().policy))
    ledger, marks = Ledger(root), Marks.remote()
    ledger.claim(config, {})
    sampled = FakeGenerator(base).generate(PROMPTS, 5, base.name)
    rates = [0.9, 0.5, 0.5, 0.5, 0.1]
    judged = [Judged(row.prompt_id, "", row.responses, [[0.0] * 5] * 5, rates, 0, 4, base.name) for row in sampled]
    for iteration in (1, 2):
        ledger.write_prompts(iteration, PROMPTS)
        ledger.write(sampled, Candidates, ledger.block(Candidates, iteration, 0))
        ledger.write(judged, Judged, ledger.block(Judged, iteration, 0))
    job = TimedJob(config, ledger, base, range(1, 3), marks)
    called = time.time()
    fit(job)
    times = ray.get(marks.times.remote()) | {"fit() returns": time.time()}
    order = ["worker process 1", "imports 1", "first step 1", "last step 1", "published 1"]
    order += ["first step 2", "last step 2", "published 2", "fit() returns"]
    return {name: times[name] - before for name, before in zip(order, [called, *map(times.get, order)], strict=False)}

"""Pausing, stopping and continuing change nothing: fake engines, the real trainer, the same policy as in an undisturbed run."""

import os
import shutil
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
from safetensors.torch import load_file

from actors.engines import Pool, generator, ranker
from actors.run.coordinator import Coordinator
from sppo_ray.config import Config, PoolSettings, load_config
from sppo_ray.errors import ReferenceMismatch, RunStopped
from sppo_ray.fakes import FakeGenerator, FakeJudge
from sppo_ray.playground import Playground
from sppo_ray.records import Candidates, Prompt, Snapshot
from sppo_ray.run_folder import Ledger
from tests import QUICK

pytestmark = pytest.mark.usefixtures("cluster")

POOL = PoolSettings()
PROMPTS = [Prompt(f"p{number}", f"prompt {number}", [2, 5, 9 + number % 50]) for number in range(120)]
CONFIG = load_config(
    overrides=[
        *QUICK,
        "block=12",
        "iterations=1",
        "training.checkpoint_steps=10",
        "training.reference=recompute",  # of the policy as it was before the checkpoint that the second start restores
        "generators.cpus=0.1",
        "rankers.cpus=0.1",
    ]
)

COLOCATED = CONFIG.model_copy(update={"placement": "colocated"})
ALONE = CONFIG.model_copy(update={"training": CONFIG.training.model_copy(update={"workers": 1})})


def start(root: Path, model: Path, config: Config = CONFIG, seconds: float = 0.0) -> tuple[Ledger, Any, Any]:
    """A run with fake engines; gives its coordinator and the reference that ends with the run."""
    ledger, base = Ledger(root), Snapshot(0, str(model))
    ledger.claim(config, {})
    ledger.write_prompts(0, [])
    ledger.write_prompts(1, PROMPTS)
    pools = [
        Pool.remote("generator", partial(generator.start, config, partial(FakeGenerator, base, seconds), ledger), POOL),
        Pool.remote("ranker", partial(ranker.start, config, FakeJudge, ledger), POOL),
    ]
    coordinator = Coordinator.remote(config, ledger, base, None)
    return ledger, coordinator, coordinator.run.remote(*pools)


@pytest.fixture(scope="module")
def undisturbed(playground: Playground, tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    ledger, coordinator, finished = start(tmp_path_factory.mktemp("runs") / "undisturbed", playground.policy)
    ray.get(finished)
    ray.kill(coordinator)
    return ledger


def trained(coordinator: Any) -> int:
    stages = ray.get(coordinator.status.remote()).stages
    return int(stages["train"].done) if stages else 0


def until_trained(coordinator: Any, pairs: int) -> None:
    while trained(coordinator) < pairs:
        time.sleep(0.02)


@pytest.fixture(scope="module")
def stopped(playground: Playground, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose engines and trainer take turns, paused and resumed, and stopped with a checkpoint of two workers."""
    folder = tmp_path_factory.mktemp("runs") / "stopped"
    ledger, coordinator, finished = start(folder, playground.policy, COLOCATED)
    until_trained(coordinator, 20)
    ray.get(coordinator.pause.remote())
    time.sleep(1)  # the step in progress
    paused = trained(coordinator)
    status = ray.get(coordinator.status.remote())
    assert status.paused and {m.state for pool in status.pools.values() for m in pool.members} == {"asleep"}
    time.sleep(1)
    assert trained(coordinator) == paused < 120
    ray.get(coordinator.resume.remote())
    until_trained(coordinator, paused + 4)
    ray.get(coordinator.stop.remote())
    with pytest.raises(RunStopped, match="the same command continues the run"):
        ray.get(finished)
    ray.kill(coordinator)
    assert ledger.snapshot(1) is None and ledger.finished_iterations() == 0 and ledger.checkpoints.exists()
    return folder


def continued(stopped: Path, root: Path, playground: Playground, config: Config) -> Ledger:
    shutil.copytree(stopped, root)
    ledger, coordinator, finished = start(root, playground.policy, config)
    ray.get(finished)
    ray.kill(coordinator)
    return ledger


def test_paused_stopped_and_continued_is_as_if_undisturbed(
    undisturbed: Ledger, stopped: Path, playground: Playground, tmp_path: Path
) -> None:
    ledger = continued(stopped, tmp_path / "run", playground, COLOCATED)
    assert [row["pairs"] for row in ledger.training_rows(1)] == [4] * 30
    assert ledger.training_rows(1) == undisturbed.training_rows(1)
    mine, other = (load_file(run.iteration(1) / "policy" / "model.safetensors") for run in (ledger, undisturbed))
    assert all(mine[name].equal(other[name]) for name in mine)
    assert not (ledger.root / "checkpoints").exists()


def test_a_stopped_run_continues_with_another_number_of_workers(
    undisturbed: Ledger, stopped: Path, playground: Playground, tmp_path: Path
) -> None:
    ledger = continued(stopped, tmp_path / "run", playground, ALONE)
    mine, other = ledger.training_rows(1), undisturbed.training_rows(1)
    assert [row["pairs"] for row in mine] == [row["pairs"] for row in other]
    # The weights of the first two steps are the same; then RMSprop makes a step of whatever rounding a small gradient has.
    assert [row["loss"] for row in mine[:2]] == pytest.approx([row["loss"] for row in other[:2]], rel=1e-5)
    assert [row["loss"] for row in mine[:5]] == pytest.approx([row["loss"] for row in other[:5]], rel=0.05)


def test_a_paused_run_stays_paused_when_its_coordinator_dies(playground: Playground, tmp_path: Path) -> None:
    ledger, coordinator, finished = start(tmp_path / "run", playground.policy, ALONE, seconds=1.0)

    def sampled() -> int:
        return len(ledger.blocks(Candidates, 1))

    while not sampled():
        time.sleep(0.1)
    ray.get(coordinator.pause.remote())
    pid = ray.get(coordinator.__ray_call__.remote(lambda _: os.getpid()))
    os.kill(pid, signal.SIGKILL)
    assert ray.get(coordinator.status.remote()).paused  # of the process that came in its place
    time.sleep(3)  # blocks in flight finish
    before = sampled()
    time.sleep(3)
    assert sampled() == before < 10 and ray.get(coordinator.status.remote()).paused
    ray.get(coordinator.resume.remote())
    ray.get(finished)
    ray.kill(coordinator)
    assert sum(len(ledger.judged(1, block)) for block in range(10)) == 120


def test_made_up_logprobs_stop_the_run_at_once(playground: Playground, tmp_path: Path) -> None:
    strict = ALONE.training.model_copy(update={"reference": "sampled", "reference_tolerance": 1e-2})
    ledger, coordinator, finished = start(
        tmp_path / "run", playground.policy, CONFIG.model_copy(update={"training": strict})
    )
    with pytest.raises(ReferenceMismatch, match=r"differ from the trainer's by .* nats per token"):
        ray.get(finished)
    ray.kill(coordinator)
    assert ledger.snapshot(1) is None

"""A killed process is a delay: fake engines, the real trainer, and the same policy as in an undisturbed run."""

import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from safetensors.torch import load_file

from actors import generator, ranker
from actors.coordinator import Coordinator
from actors.pool import Pool
from sppo_ray.config import Config, load_config
from sppo_ray.config import Pool as Settings
from sppo_ray.errors import ReferenceMismatch
from sppo_ray.fakes import FakeGenerator, FakeJudge
from sppo_ray.ledger import Ledger
from sppo_ray.playground import Playground
from sppo_ray.records import Prompt, Snapshot

pytestmark = pytest.mark.usefixtures("cluster")

POOL = Settings()
PROMPTS = [Prompt(f"p{number}", f"prompt {number}", [2, 5, 9 + number % 50]) for number in range(250)]
CONFIG = load_config(
    overrides=[
        "block=25",
        "iterations=1",
        "training.checkpoint_steps=10",
        "training.reference_tolerance=1e9",  # the fake's log-probabilities are made up
        "generators.cpus=0.1",
        "rankers.cpus=0.1",
    ]
)


def start(root: Path, model: Path, config: Config = CONFIG) -> tuple[Ledger, Any, Any]:
    """A run with fake engines; gives its coordinator and the reference that ends with the run."""
    ledger, base = Ledger(root), Snapshot(0, str(model))
    ledger.claim(config, {})
    ledger.write_prompts(0, [])
    ledger.write_prompts(1, PROMPTS)
    pools = [
        Pool.remote("generator", partial(generator.start, config, partial(FakeGenerator, base), ledger), POOL),
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


def train_worker(coordinator: Any) -> int:
    """The process of a train worker of this test's Ray, found by the name that `ps` shows."""
    processes = psutil.Process().children(recursive=True)
    return next(p.pid for p in processes if " ".join(p.cmdline()).startswith("ray::RayTrainWorker"))


def coordinator_itself(coordinator: Any) -> int:
    return int(ray.get(coordinator.__ray_call__.remote(lambda self: os.getpid())))


def test_deaths_change_nothing(undisturbed: Ledger, playground: Playground, tmp_path: Path) -> None:
    ledger, coordinator, finished = start(tmp_path / "run", playground.policy)
    for pairs, victim in ((60, train_worker), (100, coordinator_itself)):  # of 250, each past another checkpoint
        while trained(coordinator) < pairs:
            time.sleep(0.02)
        os.kill(victim(coordinator), signal.SIGKILL)
    ray.get(finished)
    ray.kill(coordinator)

    log = ledger.training_rows(1)
    assert [row["step"] for row in log] == list(range(1, 64))
    assert [row["pairs"] for row in log] == [4] * 62 + [2]
    assert log == undisturbed.training_rows(1)
    mine, other = (load_file(run.iteration(1) / "policy" / "model.safetensors") for run in (ledger, undisturbed))
    assert all(mine[name].equal(other[name]) for name in mine)
    judged = [row.prompt_id for block in range(10) for row in ledger.judged(1, block)]
    assert judged == [prompt.prompt_id for prompt in PROMPTS]


def test_made_up_logprobs_stop_the_run_at_once(playground: Playground, tmp_path: Path) -> None:
    strict = CONFIG.training.model_copy(update={"reference_tolerance": 1e-2})
    ledger, coordinator, finished = start(
        tmp_path / "run", playground.policy, CONFIG.model_copy(update={"training": strict})
    )
    with pytest.raises(ReferenceMismatch, match=r"differ from the trainer's by .* nats a token"):
        ray.get(finished)
    ray.kill(coordinator)
    assert ledger.snapshot(1) is None

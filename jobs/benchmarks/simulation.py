"""The plan's iteration time against the real pools and pipeline with engines that take the time it predicts, scaled down.

    python -m jobs.benchmarks.simulation        # all sizes, five minutes; a part of `make bench` measures the smallest

60,000 prompts of the recipe gemma-2-9b-it in one iteration, for 8 to 256 generators, with spot kills: a SIGKILL to a
process every few seconds. Of 64 generators and more, several share a process (256 fake ones of 90 MB do not fit 23 GiB):
a kill takes all of them. The trainer is a clock: it begins a block when that is judged and the block before it trained.
"""

import logging
import os
import random
import signal
import tempfile
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray

from actors.engines import Pool, generator, ranker
from actors.run.board import Board
from actors.run.scoring import EnginePools
from jobs.benchmarks import Ratio, close_to_one
from jobs.benchmarks._fakes import BASE, TimedGenerator
from sppo_ray.config import Config, load_config
from sppo_ray.fakes import FakeJudge
from sppo_ray.models import model_shape
from sppo_ray.planning.devices import device
from sppo_ray.planning.rates import ENGINE_START, table_rates
from sppo_ray.planning.splits import Split, iteration_seconds
from sppo_ray.planning.work import work
from sppo_ray.records import Prompt
from sppo_ray.run_folder import Ledger

PROMPTS = 60_000
PROCESSES = 16  # of generators, at most
IN_FLIGHT = 2  # blocks of one engine: at one, the next waits
START = 4.0  # seconds until Ray Data's stages run: not of the plan's, and not scaled
RESTART = 3.0  # seconds until Ray has started a killed process again: likewise
KILL_TIMES = (15.0, 30.0, 45.0)  # seconds
TOLERANCE = 0.10


@dataclass(frozen=True)
class Cluster:
    """So many generators in so many processes, with so many rankers and trainers that sampling sets the pace."""

    generators: int
    block: int  # prompts; smaller where a block is a large part of what an engine gets
    target: float  # seconds of an iteration, scaled down; enough for two cores to keep up

    @property
    def processes(self) -> int:
        return min(self.generators, PROCESSES)

    @property
    def engines(self) -> int:
        """Generators of one process."""
        return self.generators // self.processes

    @property
    def split(self) -> Split:
        rankers, trainers = self.generators // 2, 4 * self.generators
        return Split("disaggregated", self.generators, rankers, trainers, self.generators + rankers + trainers)


CLUSTERS = [Cluster(8, 128, 60.0), Cluster(64, 64, 80.0), Cluster(256, 32, 120.0)]


def run(clusters: list[Cluster] = CLUSTERS[:1]) -> list[Ratio]:
    ray.init(address="local", num_cpus=4, log_to_driver=False, logging_level=logging.ERROR)
    return [compare(cluster) for cluster in clusters]


def compare(cluster: Cluster) -> Ratio:
    config = load_config(
        "gemma-2-9b-it",
        overrides=[
            *(
                f"block={cluster.block}",
                "iterations=1",
                f"prompts.limit={PROMPTS}",
                "prompts.split=train",
                "evaluation.held_out=0",
            ),
            *(f"generators.max={cluster.processes}", f"generators.min={cluster.processes}"),
            *(f"generators.blocks={IN_FLIGHT * cluster.engines}", "generators.cpus=0", "generators.gpus=0"),
            *(f"rankers.blocks={IN_FLIGHT * cluster.split.rankers}", "rankers.cpus=0", "rankers.gpus=0"),
        ],
    )
    planned, scale, seconds = plan(config, cluster)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        simulated = simulate(config, cluster, scale, seconds, Path(folder))
    ratio = planned / simulated
    print(f"{cluster.generators} generators: planned {planned:.1f} s, simulated {simulated:.1f} s", flush=True)
    return close_to_one(
        f"planned / simulated iteration, {cluster.generators} generators, {len(KILL_TIMES)} spot kills",
        ratio,
        TOLERANCE,
        f"all processes share the {os.cpu_count()} cores of this machine, which the plan leaves out",
        planned=f"{planned:.1f} s",
        simulated=f"{simulated:.1f} s",
        scaled_down_by=round(1 / scale),
    )


def plan(config: Config, cluster: Cluster) -> tuple[float, float, dict[str, float]]:
    """Planned seconds of the simulated iteration, the scale, and the scaled seconds of a block in each stage's engine."""
    load, policy = work(config), model_shape(config.policy.model, "policy.model")
    rates = table_rates(config, device(80), load, cluster.split.trainers)
    full = iteration_seconds(config, policy, load, rates, cluster.split)
    scale = cluster.target / (full.total - full.advance)
    seconds = {
        "generate": scale * load.generated_tokens / rates.generate / load.blocks,
        "judge": scale * load.judged_tokens / rates.judge / load.blocks,
        "train": scale * full.train / load.blocks,
        "start_trainers": scale * full.start_trainers,
        "start_engine": scale * ENGINE_START,
    }
    # A killed process does nothing until it is back, and half of what it was at is to be done again.
    away = RESTART + seconds["start_engine"] + seconds["generate"] / 2
    lost = sum(min(away, cluster.target - moment) for moment in KILL_TIMES)
    return START + cluster.target + lost * cluster.engines / cluster.generators, scale, seconds


def simulate(config: Config, cluster: Cluster, scale: float, seconds: dict[str, float], folder: Path) -> float:
    """Seconds from the first prompt to the last block trained."""
    ledger = Ledger(folder)
    prompts = [Prompt(f"p{number}", f"prompt {number}", [1, number]) for number in range(PROMPTS)]
    ledger.write_prompts(1, prompts)
    engine = partial(start_engine, seconds["start_engine"], seconds["generate"], cluster.engines)
    judge = partial(FakeJudge, IN_FLIGHT * seconds["judge"])  # blocks in flight share a judge
    pools = [
        Pool.remote("generator", partial(generator.start, config, engine, ledger), config.generators),
        Pool.remote("ranker", partial(ranker.start, config, judge, ledger), config.rankers),
    ]
    ray.get([pools[0].open.remote(BASE), pools[1].open.remote()])
    board = ray.remote(num_cpus=0)(Board).remote()
    started = time.monotonic()
    ray.get(board.begin.remote(1, len(prompts)))
    scoring = board.score.remote(EnginePools(config, ledger, pools[0], pools[1]), 1, BASE.name)
    threading.Thread(target=kill, args=(pools[0],), daemon=True).start()
    trained = started + seconds["start_trainers"]
    for block in range(-(-len(prompts) // config.block)):
        ray.get(board.judged.remote(1, block))
        trained = max(trained, time.monotonic()) + seconds["train"]
    ray.get(scoring)
    for actor in (*pools, board):
        ray.kill(actor)
    return trained - started


def start_engine(seconds: float, block_seconds: float, engines: int) -> TimedGenerator:
    time.sleep(seconds)
    return TimedGenerator(BASE, block_seconds, engines)


def kill(pool: Any) -> None:
    """SIGKILL to a process of the pool, chosen by a seed, at the set times."""
    chance, started = random.Random(0), time.monotonic()
    for moment in KILL_TIMES:
        time.sleep(started + moment - time.monotonic())
        up = [member.pid for member in ray.get(pool.status.remote()).members if member.state == "up"]
        os.kill(chance.choice(up), signal.SIGKILL)


if __name__ == "__main__":
    for ratio in run(CLUSTERS):
        print(ratio)

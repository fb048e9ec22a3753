"""An iteration's two datasets on pools of fakes, for what is measured without a model.

In: a configuration, prompts, how long a block takes. Out: `EnginePools`, and a `Board` in place of the coordinator.
"""

import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import ray

from actors.engines import Pool, generator, ranker
from actors.run.board import Board
from actors.run.scoring import EnginePools
from sppo_ray.config import Config
from sppo_ray.fakes import FakeGenerator, FakeJudge
from sppo_ray.records import Candidates, Prompt, Snapshot
from sppo_ray.run_folder import Ledger

BASE = Snapshot(0, "base")
READY_SECONDS = 300


class TimedGenerator(FakeGenerator):
    """So many engines in one process, each at one block at a time, which fills its batch; the next one waits.

    While a block is written, its engine is at the next one, as vLLM is.
    """

    def __init__(self, snapshot: Snapshot, seconds: float, engines: int = 1) -> None:
        super().__init__(snapshot)
        self._block_seconds, self._free = seconds, threading.Semaphore(engines)

    def generate(self, prompts: list[Prompt], candidates: int, snapshot: str) -> list[Candidates]:
        with self._free:
            time.sleep(self._block_seconds)
        return super().generate(prompts, candidates, snapshot)


class SerialJudge(FakeJudge):
    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self._turn = threading.Lock()

    def compare(self, *texts: Any) -> Any:
        with self._turn:
            return super().compare(*texts)


def open_pools(
    config: Config, folder: Path, prompts: list[Prompt], sampling: float, judging: float, engines: int = 1
) -> tuple[EnginePools, Any]:
    """sampling, judging: seconds that a block takes. engines: of a generator's process. Returns when every member serves."""
    ledger = Ledger(folder)
    ledger.write_prompts(1, prompts)
    start_generator = partial(generator.start, config, partial(TimedGenerator, BASE, sampling, engines), ledger)
    start_ranker = partial(ranker.start, config, partial(SerialJudge, judging), ledger)
    pools = [
        Pool.remote("generator", start_generator, config.generators),
        Pool.remote("ranker", start_ranker, config.rankers),
    ]
    ray.get([pools[0].open.remote(BASE), pools[1].open.remote()], timeout=READY_SECONDS)
    board = ray.remote(num_cpus=0, enable_task_events=False)(Board)  # type: ignore[call-overload]
    return EnginePools(config, ledger, pools[0], pools[1]), board.remote()


def some_prompts(count: int) -> list[Prompt]:
    return [Prompt(f"p{number}", f"prompt {number}", [1, 2, number % 60]) for number in range(count)]


def score(board: Any, pools: EnginePools, iteration: int, prompts: int) -> None:
    ray.get(board.begin.remote(iteration, prompts))
    ray.get(board.score.remote(pools, iteration, BASE.name))

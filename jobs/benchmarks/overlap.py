"""An iteration of stages that take a known time, sampling the longest: how much longer it takes, and who waits for whom.

In: fakes that sleep, and two readers of the training pairs that sleep a batch. Out: wall times against the longest stage.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import ray
from ray.data import ExecutionOptions

from actors.run.pairs import read_shares, training_pairs
from actors.run.scoring import EnginePools
from jobs.benchmarks import Ratio, at_most, start_ray
from jobs.benchmarks._fakes import open_pools, score, some_prompts
from sppo_ray.config import Config, load_config

BLOCKS, BLOCK = 12, 20
SAMPLING, JUDGING, TRAINING = 1.0, 0.5, 0.6  # seconds per block; a batch is a block
SETTINGS = ["generators.cpus=0.1", "generators.blocks=2", "rankers.cpus=0.1", "training.workers=2"]


def run() -> list[Ratio]:
    start_ray()
    wall, alone = measure(TRAINING)[1], measure(0)[0]
    beside_slow = measure(5 * TRAINING)[0]
    ray.shutdown()
    longest, latency = BLOCKS * SAMPLING, SAMPLING + JUDGING + TRAINING
    return [
        at_most(
            "overlap: iteration less one block to its longest stage",
            (wall - latency) / longest,
            1.1,
            seconds=round(wall, 1),
            stages=[BLOCKS * seconds for seconds in (SAMPLING, JUDGING, TRAINING)],
        ),
        at_most(
            "overlap: scoring beside a trainer 5x slower to scoring alone",
            beside_slow / alone,
            1.05,
            seconds=[round(beside_slow, 1), round(alone, 1)],
        ),
    ]


def measure(training: float) -> tuple[float, float]:
    """Seconds from the beginning of an iteration until all is judged, and until all is trained too.

    training: seconds of a batch (0: no trainer); a trainer slower than sampling is not waited for. The iteration comes
    after another of one block: what starts once a run has started.
    """
    config = load_config("playground", overrides=[f"block={BLOCK}", f"training.batch_size={BLOCK}", *SETTINGS])
    prompts = some_prompts(BLOCKS * BLOCK)
    with tempfile.TemporaryDirectory() as folder:
        pools, board = open_pools(config, Path(folder), prompts[:BLOCK], SAMPLING, JUDGING)
        pools.ledger.write_prompts(2, prompts)
        readers = start_readers(pools, board, training) if training else []
        score(board, pools, 1, BLOCK)
        started = time.monotonic()
        score(board, pools, 2, len(prompts))
        scored = time.monotonic() - started
        if training < SAMPLING:
            ray.get(readers)
        else:
            for reader in readers:
                ray.cancel(reader, force=True)
        trained = time.monotonic() - started
        for actor in (pools.generators, pools.rankers, board):
            ray.kill(actor)
    return scored, trained


def start_readers(pools: EnginePools, board: Any, seconds: float) -> list[Any]:
    """The train workers' side of iterations 1 and 2, as `actors.run.trainer.fit` sets it up, with a step that sleeps."""
    config = pools.config
    dataset = training_pairs(config, pools.ledger, board, range(1, 3))
    dataset.context.execution_options = ExecutionOptions(preserve_order=True)
    shards = dataset.streaming_split(config.training.workers, equal=True)
    return [read.remote(shard, config, seconds) for shard in shards]


@ray.remote(num_cpus=0, max_retries=0)
def read(shard: Any, config: Config, seconds: float) -> None:
    for _ in read_shares(shard, config):
        time.sleep(seconds)

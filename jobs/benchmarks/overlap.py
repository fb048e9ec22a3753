"""An iteration of stages that take a known time, sampling the longest: how much longer it takes, and who waits for whom.

In: fakes that sleep, and two readers of the training pairs that sleep a batch. Out: wall times against the longest stage.
"""

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ray
from ray.data import ExecutionOptions

from actors.blocks import Stages
from actors.pipeline import share_size, training_pairs
from jobs.benchmarks import Ratio, at_most, start_ray
from jobs.benchmarks._fakes import open_stages, score, some_prompts
from sppo_ray.config import load_config

BLOCKS, BLOCK = 30, 20
SAMPLING, JUDGING, TRAINING = 1.0, 0.5, 0.6  # seconds a block; a batch is a block
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
    """Seconds until all is judged, and until all is trained too, with a trainer that takes so long a batch (0: none).

    A trainer slower than sampling is not waited for.
    """
    config = load_config("playground", overrides=[f"block={BLOCK}", f"training.batch_size={BLOCK}", *SETTINGS])
    prompts = some_prompts(BLOCKS * BLOCK)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as thread:
        stages = open_stages(config, Path(folder), prompts, SAMPLING, JUDGING)
        started = time.monotonic()
        scoring = thread.submit(score, stages, prompts)
        readers = start_readers(stages, len(prompts), training) if training else []
        scoring.result()
        scored = time.monotonic() - started
        if training < SAMPLING:
            ray.get(readers)
        else:
            for reader in readers:
                ray.cancel(reader, force=True)
        trained = time.monotonic() - started
        for actor in (stages.generators, stages.rankers, stages.coordinator):
            ray.kill(actor)
    return scored, trained


def start_readers(stages: Stages, prompts: int, seconds: float) -> list[Any]:
    """The train workers' side of an iteration, as `actors.trainer.fit` sets it up, with a step that sleeps."""
    dataset = training_pairs(stages, 1, prompts)
    dataset.context.execution_options = ExecutionOptions(preserve_order=True)
    shards = dataset.streaming_split(stages.config.training.workers, equal=True)
    return [read.remote(shard, share_size(stages.config), seconds) for shard in shards]


@ray.remote(num_cpus=0, max_retries=0)
def read(shard: Any, size: int, seconds: float) -> None:
    for _ in shard.iter_batches(batch_size=size, batch_format="pyarrow", prefetch_batches=1):
        time.sleep(seconds)

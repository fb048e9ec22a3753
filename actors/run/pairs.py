"""The Ray Dataset that the trainer reads: the pairs of an iteration in the order of its prompts.

In: the ledger's judged blocks, as the coordinator says that they are done. Out: rows of training data.
Trainer and engines meet in the ledger, so sampling starts before the trainer is up and never waits for it.
"""

from functools import cached_property, lru_cache
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, Dataset

from actors.cluster.placement import here
from sppo_ray.config import Config
from sppo_ray.judging import filler, pair
from sppo_ray.records import Pair, to_table
from sppo_ray.run_folder import Ledger
from sppo_ray.training.schedule import steps_per_epoch

CALLS = 8  # shares that wait for their prompts or are read ahead


class Pairs:
    """Yields the pairs of one worker's share of a batch once their prompts are judged, filled up with rows of weight 0.

    A share is prompts [n * size, (n + 1) * size) of the iteration, in their order. A prompt that was set aside becomes a
    row of weight 0, and so do the places after the last prompt.
    """

    def __init__(self, config: Config, ledger: Ledger, coordinator: Any, iteration: int) -> None:
        self._config, self._ledger, self._coordinator, self._iteration = config, ledger, coordinator, iteration
        self._size = share_size(config)
        self._pairs = lru_cache(maxsize=8)(self._read)

    async def __call__(self, table: pa.Table) -> Any:
        start = int(table["number"][0].as_py()) * self._size
        end = min(start + self._size, len(self._names))
        each = self._config.block
        rows: list[Pair] = []
        for block in range(start // each, -(-end // each)):
            await self._coordinator.judged.remote(self._iteration, block)
            rows += self._pairs(block)[max(start - block * each, 0) : max(end - block * each, 0)]
        yield to_table(rows + [filler()] * (self._size - len(rows)), Pair)

    def _read(self, block: int) -> list[Pair]:
        candidates = {row.prompt_id: row for row in self._ledger.candidates(self._iteration, block)}
        judged = {row.prompt_id: row for row in self._ledger.judged(self._iteration, block)}
        each = self._config.block
        return [
            pair(candidates[name], judged[name], self._config) if name in judged else filler()
            for name in self._names[block * each : (block + 1) * each]
        ]

    @cached_property
    def _names(self) -> list[str]:
        return [prompt.prompt_id for prompt in self._ledger.prompts(self._iteration)]


def training_pairs(config: Config, ledger: Ledger, coordinator: Any, iteration: int) -> Dataset:
    """The pairs of an iteration in the order of its prompts, in Ray Data blocks of one worker's share of a batch.

    With the order preserved, Ray deals such blocks to the workers in turn: batch n is rows n * batch_size and on.
    """
    shares = steps_per_epoch(config.training, len(ledger.prompts(iteration))) * config.training.workers
    # A block for each number, made here: `range` and `from_arrow` would wait for a CPU to be free.
    numbers = ray.data.from_items([{"number": number} for number in range(shares)], override_num_blocks=shares)
    dataset = numbers.map_batches(
        Pairs,
        fn_constructor_args=(config, ledger, coordinator, iteration),
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
        num_cpus=0,
        label_selector=here(),
        compute=ActorPoolStrategy(size=1, max_tasks_in_flight_per_actor=CALLS, max_concurrent_calls_per_actor=CALLS),
    )
    dataset.set_name(f"iteration-{iteration}-train")
    return dataset


def share_size(config: Config) -> int:
    """Pairs of a batch that one train worker takes."""
    return config.training.batch_size // config.training.workers

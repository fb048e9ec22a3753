"""The Ray Dataset that the trainer reads: the pairs of an iteration in the order of its prompts.

In: the ledger's judged blocks, as the coordinator says that they are done. Out: rows of training data.
Trainer and engines meet in the ledger, so sampling starts before the trainer is up and never waits for it.
"""

from functools import cached_property, lru_cache
from itertools import groupby
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, Dataset

from actors.cluster.placement import here
from sppo_ray.config import Config
from sppo_ray.judging import filler, pair, trained
from sppo_ray.records import Anchored, Judged, Pair, to_table
from sppo_ray.run_folder import Ledger
from sppo_ray.training.schedule import steps_per_epoch

CALLS = 8  # shares that wait for their prompts or are read ahead


class Pairs:
    """Yields the pairs of one worker's share of a batch once their prompts are judged, filled up with rows of weight 0.

    A share is prompts [n * size, (n + 1) * size) of `training_prompts`, in their order. A prompt that was set aside becomes
    a row of weight 0, and so do the places after the last prompt in the last batch; batches after that have no rows.
    """

    def __init__(self, config: Config, ledger: Ledger, coordinator: Any, iteration: int) -> None:
        self._config, self._ledger, self._coordinator, self._iteration = config, ledger, coordinator, iteration
        self._size = share_size(config)
        self._pairs = lru_cache(maxsize=8)(self._read)

    async def __call__(self, table: pa.Table) -> Any:
        number = int(table["number"][0].as_py())
        if self._config.training.min_margin:
            await self._coordinator.judged.remote(self._iteration, *set(self._blocks.values()))
        if number // self._config.training.workers * self._config.training.batch_size >= len(self._names):
            yield to_table([], Pair)
            return
        rows: list[Pair] = []
        others = self._config.training.other_anchors(self._iteration)
        for block, names in groupby(self._names[number * self._size :][: self._size], self._blocks.__getitem__):
            await self._coordinator.scored.remote(self._iteration, others, [block])
            pairs = self._pairs(block)
            rows += [pairs.get(name) or filler() for name in names]
        yield to_table(rows + [filler()] * (self._size - len(rows)), Pair)

    def _read(self, block: int) -> dict[str, Pair]:
        candidates = {row.prompt_id: row for row in self._ledger.candidates(self._iteration, block)}
        judged = [row for row in self._ledger.judged(self._iteration, block) if trained(row, self._config.training)]
        *others, _ = self._config.training.anchored(self._iteration).items()
        read = [
            (weight, self._ledger.read(Anchored, self._ledger.anchored(self._iteration, block, n)))
            for n, weight in others
        ]
        anchors = [[(weight, rows[place]) for weight, rows in read] for place in range(len(judged))]
        return {
            row.prompt_id: pair(candidates[row.prompt_id], row, self._config, anchor)
            for row, anchor in zip(judged, anchors, strict=True)
        }

    @cached_property
    def _names(self) -> list[str]:
        return training_prompts(self._config, self._ledger, self._iteration)

    @cached_property
    def _blocks(self) -> dict[str, int]:
        names = self._ledger.prompts(self._iteration).column("prompt_id")
        return {name: place // self._config.block for place, name in enumerate(names)}


def training_prompts(config: Config, ledger: Ledger, iteration: int) -> list[str]:
    """Names of the prompts whose pairs are trained, in their order; with `training.min_margin` all have to be judged."""
    if config.training.min_margin:
        return [row.prompt_id for row in ledger.rows(Judged, iteration) if trained(row, config.training)]
    return ledger.prompts(iteration).column("prompt_id")


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

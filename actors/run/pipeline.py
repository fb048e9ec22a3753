"""Two streaming Ray Datasets around the ledger: one has prompts sampled and judged, one turns what was judged into pairs.

In: the prompts of an iteration, in blocks. Out: blocks of the ledger; rows of training data in the order of the prompts.
They meet in the ledger, so that sampling starts before the trainer is up and never waits for it.
"""

from functools import cached_property, lru_cache
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset

from actors.cluster.placement import here
from actors.run.blocks import Stages, judge_block, sample_block
from sppo_ray.config import Config
from sppo_ray.judging import filler, pair
from sppo_ray.records import Candidates, Judged, Pair, Prompt, to_table
from sppo_ray.run_folder import Ledger

PAIR_CALLS = 8  # shares that wait for their prompts or are read ahead


class Generate:
    """Has each block of prompts sampled, unless the ledger has it already, as soon as its iteration begins."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages

    async def __call__(self, table: pa.Table) -> Any:
        iteration, block = _item(table)
        stages, each = self._stages, self._stages.config.block
        snapshot = await stages.coordinator.sampling.remote(iteration)
        path = stages.ledger.block(Candidates, iteration, block)
        prompts = _prompts(stages.ledger, iteration)[block * each : (block + 1) * each]
        if not stages.ledger.has(path):
            await sample_block(stages, iteration, path, prompts, stages.config.generation.candidates, snapshot)
        await stages.coordinator.done.remote("generate", iteration, block, len(prompts))
        yield table


class Judge:
    """Has each block of candidates judged, unless the ledger has it already."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages

    async def __call__(self, table: pa.Table) -> Any:
        iteration, block = _item(table)
        stages, each = self._stages, self._stages.config.block
        paths = [stages.ledger.block(kind, iteration, block) for kind in (Candidates, Judged)]
        if not stages.ledger.has(paths[1]):
            await judge_block(stages, iteration, *paths)
        prompts = min(each, len(_prompts(stages.ledger, iteration)) - block * each)
        await stages.coordinator.done.remote("judge", iteration, block, prompts)
        yield table


class Pairs:
    """Gives the pairs of one worker's share of a batch, once their prompts are judged; fills up with rows of weight 0.

    A share is prompts [n * size, (n + 1) * size) of the iteration, in their order. A prompt that was set aside has a
    row of weight 0, and so have the places after the last prompt.
    """

    def __init__(self, stages: Stages, iteration: int, prompts: int) -> None:
        self._stages, self._iteration, self._prompts = stages, iteration, prompts
        self._size = share_size(stages.config)
        self._pairs = lru_cache(maxsize=8)(self._read)

    async def __call__(self, table: pa.Table) -> Any:
        start = _number(table) * self._size
        end = min(start + self._size, self._prompts)
        each = self._stages.config.block
        rows: list[Pair] = []
        for block in range(start // each, -(-end // each)):
            await self._stages.coordinator.judged.remote(self._iteration, block)
            rows += self._pairs(block)[max(start - block * each, 0) : max(end - block * each, 0)]
        yield to_table(rows + [filler()] * (self._size - len(rows)), Pair)

    def _read(self, block: int) -> list[Pair]:
        candidates = {row.prompt_id: row for row in self._stages.ledger.candidates(self._iteration, block)}
        judged = {row.prompt_id: row for row in self._stages.ledger.judged(self._iteration, block)}
        each = self._stages.config.block
        return [
            pair(candidates[name], judged[name], self._stages.config) if name in judged else filler()
            for name in self._names[block * each : (block + 1) * each]
        ]

    @cached_property
    def _names(self) -> list[str]:
        return [prompt.prompt_id for prompt in self._stages.ledger.prompts(self._iteration)]


def score(stages: Stages, iterations: range) -> None:
    """Have all prompts of these iterations sampled and judged, each iteration as soon as the coordinator begins it."""
    DataContext.get_current().enable_progress_bars = False  # the driver prints progress in lines
    blocks = [
        {"iteration": iteration, "number": block}
        for iteration in iterations
        for block in range(-(-len(stages.ledger.prompts(iteration)) // stages.config.block))
    ]
    pools = stages.config.generators, stages.config.rankers
    dataset = (
        ray.data.from_items(blocks, override_num_blocks=len(blocks))
        .map_batches(Generate, fn_constructor_args=(stages,), **_stage(pools[0].max * pools[0].blocks))
        .map_batches(Judge, fn_constructor_args=(stages,), **_stage(pools[1].max * pools[1].blocks))
    )
    dataset.set_name("score")
    for _ in dataset.iter_rows():
        pass


def training_pairs(stages: Stages, iteration: int, prompts: int) -> Dataset:
    """The pairs of an iteration in the order of its prompts, in Ray Data blocks of one worker's share of a batch.

    With the order preserved, Ray deals such blocks to the workers in turn: batch n is rows n * batch_size and on.
    """
    shares = steps_an_epoch(stages.config, prompts) * stages.config.training.workers
    # A block for each number, made here: `range` and `from_arrow` would wait for a CPU to be free.
    numbers = ray.data.from_items([{"number": number} for number in range(shares)], override_num_blocks=shares)
    dataset = numbers.map_batches(Pairs, fn_constructor_args=(stages, iteration, prompts), **_stage(PAIR_CALLS))
    dataset.set_name(f"iteration-{iteration}-train")
    return dataset


def steps_an_epoch(config: Config, prompts: int) -> int:
    """Optimizer steps in one pass over an iteration's pairs; the last batch is filled up with rows of weight 0."""
    return -(-prompts // config.training.batch_size)


def share_size(config: Config) -> int:
    """Pairs of a batch that one train worker gets."""
    return config.training.batch_size // config.training.workers


def _number(table: pa.Table) -> int:
    return int(table["number"][0].as_py())


def _item(table: pa.Table) -> tuple[int, int]:
    return int(table["iteration"][0].as_py()), _number(table)


@lru_cache(maxsize=1)
def _prompts(ledger: Ledger, iteration: int) -> list[Prompt]:
    return ledger.prompts(iteration)


def _stage(calls: int) -> dict[str, Any]:
    """A light asynchronous stage: one actor with that many blocks in flight, which holds no resources of its own.

    All that are in flight run: an actor takes waiting calls in any order, and blocks of the next iteration that wait for it
    to begin would keep one of this iteration from ever running.
    """
    return {
        "batch_size": None,
        "batch_format": "pyarrow",
        "zero_copy_batch": True,
        "num_cpus": 0,
        "label_selector": here(),
        "compute": ActorPoolStrategy(size=1, max_tasks_in_flight_per_actor=calls, max_concurrent_calls_per_actor=calls),
    }

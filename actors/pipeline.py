"""Two streaming Ray Datasets around the ledger: one has prompts sampled and judged, one turns what was judged into pairs.

In: the prompts of an iteration, in blocks. Out: blocks of the ledger; rows of training data in the order of the prompts.
They meet in the ledger, so that sampling starts before the trainer is up and never waits for it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, Dataset

from sppo_ray.config import Config
from sppo_ray.ledger import Ledger
from sppo_ray.pairing import filler, pair
from sppo_ray.records import Candidates, Judged, Pair, Prompt, from_table, to_table

BLOCK = pa.field("block", pa.int32())
PAIR_CALLS = 8  # shares that wait for their prompts or are read ahead


@dataclass(frozen=True)
class Stages:
    """What the stages of a run need to reach: the ledger, the pools, and the coordinator that counts."""

    config: Config
    ledger: Ledger
    generators: Any
    rankers: Any
    coordinator: Any


class Generate:
    """Has each block of prompts sampled, unless the ledger has it already. Gives the prompts on."""

    def __init__(self, stages: Stages, iteration: int, snapshot: str) -> None:
        self._stages, self._iteration, self._snapshot = stages, iteration, snapshot

    async def __call__(self, table: pa.Table) -> Any:
        ledger = self._stages.ledger
        path = ledger.block(Candidates, self._iteration, _block(table))
        if not ledger.has(path):
            prompts = from_table(table, Prompt)
            count = self._stages.config.generation.candidates
            await self._stages.generators.call.remote("generate", path, prompts, count, self._snapshot)
        self._stages.coordinator.progress.remote("generate", table.num_rows)
        yield table


class Judge:
    """Has each block of candidates judged, unless the ledger has it already. Gives the block's number on."""

    def __init__(self, stages: Stages, iteration: int) -> None:
        self._stages, self._iteration = stages, iteration

    async def __call__(self, table: pa.Table) -> Any:
        ledger, block = self._stages.ledger, _block(table)
        path = ledger.block(Judged, self._iteration, block)
        if not ledger.has(path):
            await self._stages.rankers.call.remote("judge", ledger.block(Candidates, self._iteration, block), path)
        self._stages.coordinator.progress.remote("judge", table.num_rows)
        yield pa.table({"block": pa.array([block], pa.int32())})


class Pairs:
    """Gives the pairs of one worker's share of a batch, once their prompts are judged; fills the last up with weight 0.

    A share is rows [n * size, (n + 1) * size) of the iteration, in the order of its prompts.
    """

    def __init__(self, stages: Stages, iteration: int, prompts: int) -> None:
        self._stages, self._iteration, self._prompts = stages, iteration, prompts
        self._size = share_size(stages.config)
        self._pairs = lru_cache(maxsize=8)(self._read)

    async def __call__(self, table: pa.Table) -> Any:
        start = table["share"][0].as_py() * self._size
        end = min(start + self._size, self._prompts)
        each = self._stages.config.block
        rows: list[Pair] = []
        for block in range(start // each, -(-end // each)):
            await self._stages.coordinator.judged.remote(self._iteration, block)
            rows += self._pairs(block)[max(start - block * each, 0) : max(end - block * each, 0)]
        yield to_table(rows + [filler()] * (self._size - len(rows)), Pair)

    def _read(self, block: int) -> list[Pair]:
        candidates = self._stages.ledger.candidates(self._iteration, block)
        judged = self._stages.ledger.judged(self._iteration, block)
        return [pair(*rows, self._stages.config) for rows in zip(candidates, judged, strict=True)]


def prompt_blocks(prompts: list[Prompt], size: int) -> list[pa.Table]:
    """Prompts in blocks, each a table with its number in the column `block`."""
    tables = []
    for block, start in enumerate(range(0, len(prompts), size)):
        table = to_table(prompts[start : start + size], Prompt)
        tables.append(table.append_column(BLOCK, pa.array([block] * table.num_rows, pa.int32())))
    return tables


def scored_blocks(stages: Stages, iteration: int, snapshot: str, blocks: list[pa.Table]) -> Iterator[int]:
    """Have all blocks sampled and judged; yields the number of each as soon as it is judged."""
    pools = stages.config.generators, stages.config.rankers
    dataset = (
        ray.data.from_arrow(blocks)
        .map_batches(
            Generate, fn_constructor_args=(stages, iteration, snapshot), **_stage(pools[0].max * pools[0].blocks)
        )
        .map_batches(Judge, fn_constructor_args=(stages, iteration), **_stage(pools[1].max * pools[1].blocks))
    )
    dataset.set_name(f"iteration-{iteration}-score")
    for row in dataset.iter_rows():
        yield row["block"]


def training_pairs(stages: Stages, iteration: int, prompts: int) -> Dataset:
    """The pairs of an iteration in the order of its prompts, in Ray Data blocks of one worker's share of a batch.

    With the order preserved, Ray deals such blocks to the workers in turn: batch n is rows n * batch_size and on.
    """
    shares = steps_an_epoch(stages.config, prompts) * stages.config.training.workers
    dataset = ray.data.from_arrow(
        [pa.table({"share": pa.array([share], pa.int32())}) for share in range(shares)]
    ).map_batches(Pairs, fn_constructor_args=(stages, iteration, prompts), **_stage(PAIR_CALLS))
    dataset.set_name(f"iteration-{iteration}-train")
    return dataset


def steps_an_epoch(config: Config, prompts: int) -> int:
    """Optimizer steps in one pass over an iteration's pairs; the last batch is filled up with rows of weight 0."""
    return -(-prompts // config.training.batch_size)


def share_size(config: Config) -> int:
    """Pairs of a batch that one train worker gets."""
    return config.training.batch_size // config.training.workers


def _stage(calls: int) -> dict[str, Any]:
    """A light asynchronous stage: one actor with that many blocks in flight, which holds no resources of its own."""
    return {
        "batch_size": None,
        "batch_format": "pyarrow",
        "zero_copy_batch": True,
        "num_cpus": 0,
        "compute": ActorPoolStrategy(
            size=1, max_tasks_in_flight_per_actor=calls + 1, max_concurrent_calls_per_actor=calls
        ),
    }


def _block(table: pa.Table) -> int:
    return table["block"][0].as_py()

"""The Ray Dataset that the trainer reads: the pairs of its iterations, one after the other, in the order of their prompts.

In: the ledger's judged blocks, as the coordinator says that they are done. Out: rows of training data.
Trainer and engines meet in the ledger, so sampling starts before the trainer is up and never waits for it.
One dataset for all iterations: the processes of a dataset take some seconds to start.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, Dataset

from actors.cluster.placement import here
from sppo_ray.config import Config
from sppo_ray.judging import filler, pair, trained
from sppo_ray.records import Anchored, Judged, Pair, from_table, to_table
from sppo_ray.run_folder import Ledger
from sppo_ray.training.schedule import steps_per_epoch

PAIRS = "pairs"  # the dataset's name, in Ray Data and in Ray Train
CALLS = 8  # shares that wait for their prompts or are read ahead


class Pairs:
    """Yields the pairs of one worker's share of a batch once their prompts are judged, filled up with rows of weight 0.

    A share is prompts [n * size, (n + 1) * size) of the `training_prompts` of an iteration, in their order. A prompt that was
    set aside becomes a row of weight 0, and so do the places after the last prompt in the last batch; batches after that
    have no rows.
    """

    def __init__(self, config: Config, ledger: Ledger, coordinator: Any) -> None:
        self._config, self._ledger, self._coordinator = config, ledger, coordinator
        self._size = share_size(config)
        self._pairs = lru_cache(maxsize=8)(self._read)
        # The next iteration's first shares are asked for while the last ones of this are read.
        self._names = lru_cache(maxsize=2)(self._find_names)
        self._blocks = lru_cache(maxsize=2)(self._find_blocks)

    async def __call__(self, table: pa.Table) -> Any:
        iteration, number = (int(table[name][0].as_py()) for name in ("iteration", "number"))
        training, blocks = self._config.training, self._blocks(iteration)
        if training.min_margin:
            await self._coordinator.judged.remote(iteration, *set(blocks.values()))
        prompts = self._names(iteration)
        if number // training.workers * training.batch_size >= len(prompts):
            yield to_table([], Pair)
            return
        rows: list[Pair] = []
        others = training.other_anchors(iteration)
        for block, names in groupby(prompts[number * self._size :][: self._size], blocks.__getitem__):
            await self._coordinator.scored.remote(iteration, others, [block])
            pairs = self._pairs(iteration, block)
            rows += [pairs.get(name) or filler() for name in names]
        yield to_table(rows + [filler()] * (self._size - len(rows)), Pair)

    def _read(self, iteration: int, block: int) -> dict[str, Pair]:
        candidates = {row.prompt_id: row for row in self._ledger.candidates(iteration, block)}
        judged = [row for row in self._ledger.judged(iteration, block) if trained(row, self._config.training)]
        *others, _ = self._config.training.anchored(iteration).items()
        read = [
            (weight, self._ledger.read(Anchored, self._ledger.anchored(iteration, block, n))) for n, weight in others
        ]
        anchors = [[(weight, rows[place]) for weight, rows in read] for place in range(len(judged))]
        return {
            row.prompt_id: pair(candidates[row.prompt_id], row, self._config, anchor)
            for row, anchor in zip(judged, anchors, strict=True)
        }

    def _find_names(self, iteration: int) -> list[str]:
        return training_prompts(self._config, self._ledger, iteration)

    def _find_blocks(self, iteration: int) -> dict[str, int]:
        names = self._ledger.prompts(iteration).column("prompt_id")
        return {name: place // self._config.block for place, name in enumerate(names)}


def training_prompts(config: Config, ledger: Ledger, iteration: int) -> list[str]:
    """Names of the prompts whose pairs are trained, in their order; with `training.min_margin` all have to be judged."""
    if config.training.min_margin:
        return [row.prompt_id for row in ledger.rows(Judged, iteration) if trained(row, config.training)]
    return ledger.prompts(iteration).column("prompt_id")


def training_pairs(config: Config, ledger: Ledger, coordinator: Any, iterations: range) -> Dataset:
    """The pairs of those of these iterations that have no policy yet, in Ray Data blocks of one worker's share of a batch.

    With the order preserved, Ray deals such blocks to the workers in turn: batch n of an iteration is rows n * batch_size
    and on. Every epoch, but where the workers keep the pairs for the references that they recompute.
    """
    training = config.training
    epochs = 1 if training.reference == "recompute" else training.epochs
    steps = {t: steps_per_epoch(training, len(ledger.prompts(t))) for t in iterations if ledger.snapshot(t) is None}
    shares = [
        {"iteration": iteration, "number": number}
        for iteration, count in steps.items()
        for _ in range(epochs)
        for number in range(count * training.workers)
    ]
    # A block for each, made here: `range` and `from_arrow` would wait for a CPU to be free.
    dataset = ray.data.from_items(shares, override_num_blocks=max(1, len(shares))).map_batches(
        Pairs,
        fn_constructor_args=(config, ledger, coordinator),
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
        num_cpus=0,
        label_selector=here(),
        compute=ActorPoolStrategy(size=1, max_tasks_in_flight_per_actor=CALLS, max_concurrent_calls_per_actor=CALLS),
    )
    dataset.set_name(PAIRS)
    return dataset


def read_shares(shard: Any, config: Config) -> Iterator[list[Pair]]:
    """One worker's share of each batch, as soon as its prompts are judged. shard: of the dataset."""
    # With batches fetched ahead a share would wait for the one after it, and an iteration's last for the next iteration.
    for batch in shard.iter_batches(batch_size=share_size(config), batch_format="pyarrow", prefetch_batches=0):
        yield from_table(batch, Pair)


def share_size(config: Config) -> int:
    """Pairs of a batch that one train worker takes."""
    return config.training.batch_size // config.training.workers

"""The log-probabilities of an iteration's trained responses under its other anchors, from the generators.

In: judged blocks in the ledger. Out: blocks of `Anchored`, one for each anchor; one that is there is not computed again.
The generators load the anchors one after the other, once all of the iteration is judged, and the trainer holds one model.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from actors.run.scoring import EnginePools
from sppo_ray.records import Candidates, Judged, Snapshot

if TYPE_CHECKING:
    from actors.run.board import Board


async def anchor(
    pools: EnginePools,
    iteration: int,
    base: Snapshot,
    load: Callable[[Snapshot], Awaitable[None]],
    board: "Board",
) -> None:
    """Score every judged block under each anchor of the iteration besides its current policy. load: into the generators."""
    config, ledger = pools.config, pools.ledger
    prompts = len(await asyncio.to_thread(ledger.prompts, iteration))
    sizes = [min(config.block, prompts - start) for start in range(0, prompts, config.block)]
    at_once = asyncio.Semaphore(config.generators.max * config.generators.blocks)

    async def one(snapshot: Snapshot, block: int) -> None:
        candidates, judged = (ledger.block(kind, iteration, block) for kind in (Candidates, Judged))
        path = ledger.anchored(iteration, block, snapshot.iteration)
        async with at_once:
            await pools.generators.call.remote("anchor", candidates, judged, path, config.training, snapshot.name)
        await board.anchored(iteration, snapshot.iteration, block, sizes[block])

    for number in config.training.other_anchors(iteration):
        paths = [ledger.anchored(iteration, block, number) for block in range(len(sizes))]
        kept = await asyncio.gather(*(asyncio.to_thread(ledger.has, path) for path in paths))
        for block in (block for block, there in enumerate(kept) if there):
            await board.anchored(iteration, number, block, sizes[block], kept=True)
        if not all(kept):
            snapshot = ledger.snapshot(number) if number else base
            assert snapshot is not None  # anchors are not pruned
            board.anchoring(snapshot)
            await load(snapshot)
            await asyncio.gather(*(one(snapshot, block) for block, there in enumerate(kept) if not there))

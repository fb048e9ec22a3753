"""Scoring the prompts of an iteration: each block is sampled, then judged, on the pools; the ledger keeps both.

In: prompts in blocks. Out: blocks of candidates and judgements in the ledger. A block that is there is not computed again;
a prompt that fails on every engine is set aside, with the reason.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sppo_ray.config import Config
from sppo_ray.errors import BlockFailed, JudgeUnavailable, RunFailed
from sppo_ray.records import Candidates, Judged, Prompt, Record, SetAside
from sppo_ray.run_folder import Ledger, files

if TYPE_CHECKING:
    from actors.run.board import Board


@dataclass(frozen=True)
class EnginePools:
    """The pools of a run, and what their work needs: the configuration and the ledger that blocks are written to.

    pause: pauses the run, with the reason in words; without it, a judge that is unavailable ends the work.
    """

    config: Config
    ledger: Ledger
    generators: Any
    rankers: Any
    pause: Callable[[str], Awaitable[None]] | None = None

    async def call_judge(self, method: str, *arguments: Any, **options: bool) -> Any:
        """Call a ranker. A judge that is unavailable pauses the run; the call is made again when the run goes on."""
        while True:
            try:
                return await self.rankers.call.remote(method, *arguments, **options)
            except JudgeUnavailable as error:
                if self.pause is None:
                    raise
                await self.pause(str(getattr(error, "cause", error)))


async def score(pools: EnginePools, iteration: int, snapshot: str, board: "Board") -> None:
    """Sample every block of an iteration from the snapshot of that name and judge it, in the order of the prompts.

    Blocks in flight are as many as the largest pools can hold; sampling never waits for judging.
    """
    config, ledger = pools.config, pools.ledger
    prompts = await asyncio.to_thread(ledger.prompts, iteration)
    sampling = asyncio.Semaphore(config.generators.max * config.generators.blocks)
    judging = asyncio.Semaphore(config.rankers.max * config.rankers.blocks)

    async def sample(block: int, part: Sequence[Prompt]) -> None:
        candidates, tokens = ledger.block(Candidates, iteration, block), None
        async with sampling:
            if not (kept := await asyncio.to_thread(ledger.has, candidates)):
                tokens, failed = await sample_block(pools, candidates, part, config.generation.candidates, snapshot)
                await board.set_aside(iteration, failed)
        await board.done("generate", iteration, block, len(part), kept, tokens)

    async def judge(block: int, part: Sequence[Prompt]) -> None:
        candidates, judged = (ledger.block(kind, iteration, block) for kind in (Candidates, Judged))
        async with judging:
            if not (kept := await asyncio.to_thread(ledger.has, judged)):
                await board.set_aside(iteration, await judge_block(pools, candidates, judged))
        await board.done("judge", iteration, block, len(part), kept)

    async def sample_and_judge(block: int, part: Sequence[Prompt]) -> None:
        await sample(block, part)
        await judge(block, part)

    async def every(work: Callable[[int, Sequence[Prompt]], Awaitable[None]]) -> None:
        starts = range(0, len(prompts), config.block)
        await asyncio.gather(*(work(n, prompts[start : start + config.block]) for n, start in enumerate(starts)))

    if config.takes_turns:
        await every(sample)
        await board.turn("rankers")
        await every(judge)
    else:
        await every(sample_and_judge)


def check_set_aside(config: Config, what: str, count: int, total: int, last: str) -> None:
    """Raise `RunFailed` if more than `max_set_aside` of what was asked for could not be done. what: with {} for the count."""
    if count > config.max_set_aside * total:
        raise RunFailed(
            f"{what.format(count)} were set aside, {count / total:.1%}; max_set_aside is {config.max_set_aside:.1%}. "
            f"The last is {last}"
        )


async def sample_block(
    pools: EnginePools, path: Path, part: Sequence[Prompt], count: int, snapshot: str
) -> tuple[int | None, list[SetAside]]:
    """Write a block of `count` responses per prompt to the ledger under path.

    Returns how many tokens they have, None where prompts were sampled singly, and the prompts that were set aside.
    """
    generate, prompts = pools.generators.call, list(part)
    try:
        return await generate.remote("generate", path, prompts, count, snapshot), []
    except BlockFailed:

        async def one(number: int, part: Path) -> list[SetAside]:
            await generate.remote("generate", part, [prompts[number]], count, snapshot, alone=True)
            return []

        return None, await _one_by_one(pools, path, Candidates, [prompt.prompt_id for prompt in prompts], one)


async def judge_block(pools: EnginePools, candidates: Path, path: Path) -> list[SetAside]:
    """Write the judgements of a block of candidates to the ledger under path; returns the prompts that were set aside."""
    try:
        unusable: list[SetAside] = await pools.call_judge("judge", candidates, path)
    except BlockFailed:
        rows = pools.ledger.read(Candidates, candidates)

        def one(number: int, part: Path) -> Awaitable[list[SetAside]]:
            its_candidates = part.with_name(f"{number:05d}-candidates.parquet")
            pools.ledger.write([rows[number]], Candidates, its_candidates)
            return pools.call_judge("judge", its_candidates, part, alone=True)

        return await _one_by_one(pools, path, Judged, [row.prompt_id for row in rows], one)
    return unusable


async def _one_by_one(
    pools: EnginePools,
    path: Path,
    kind: type[Record],
    names: list[str],
    one: Callable[[int, Path], Awaitable[list[SetAside]]],
) -> list[SetAside]:
    """Do the prompts of a block singly, set those aside that keep failing, and write the block with the others."""
    parts = path.with_name(f"{path.stem}.parts")
    rows: list[Record] = []
    failed: list[SetAside] = []
    for number, name in enumerate(names):
        part = parts / path.parent.name / f"{number:05d}.parquet"
        try:
            failed += await one(number, part)
        except BlockFailed as error:
            why = str(getattr(error, "cause", error))
            failed.append(SetAside(name, "generate" if kind is Candidates else "judge", why))
        else:
            rows += pools.ledger.read(kind, part)
    if failed:
        pools.ledger.write_set_aside(path, failed)
    pools.ledger.write(rows, kind, path)
    files.remove(parts)
    return failed

"""One block of prompts sampled or judged on the pools, whatever engines do with it.

In: a block's prompts or candidates. Out: the block in the ledger; prompts that no engine can do are set aside, with the reason.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sppo_ray.config import Config
from sppo_ray.errors import BlockFailed
from sppo_ray.records import Candidates, Judged, Prompt, Record, SetAside
from sppo_ray.run_folder import Ledger, files


@dataclass(frozen=True)
class Stages:
    """What the stages of a run need to reach: the ledger, the pools, and the coordinator that counts."""

    config: Config
    ledger: Ledger
    generators: Any
    rankers: Any
    coordinator: Any


async def sample_block(
    stages: Stages, iteration: int, path: Path, prompts: list[Prompt], count: int, snapshot: str
) -> None:
    """Have a block sampled, count responses to each prompt, into the ledger under path."""
    generate = stages.generators.call
    try:
        await generate.remote("generate", path, prompts, count, snapshot)
    except BlockFailed:

        def one(number: int, part: Path) -> Awaitable[None]:
            return generate.remote("generate", part, [prompts[number]], count, snapshot, alone=True)

        await _one_by_one(stages, iteration, path, Candidates, [prompt.prompt_id for prompt in prompts], one)


async def judge_block(stages: Stages, iteration: int, candidates: Path, path: Path) -> None:
    """Have a block of candidates judged into the ledger under path."""
    judge = stages.rankers.call
    try:
        await judge.remote("judge", candidates, path)
    except BlockFailed:
        rows = stages.ledger.read(Candidates, candidates)

        def one(number: int, part: Path) -> Awaitable[None]:
            its_candidates = part.with_name(f"{number:05d}-candidates.parquet")
            stages.ledger.write([rows[number]], Candidates, its_candidates)
            return judge.remote("judge", its_candidates, part, alone=True)

        await _one_by_one(stages, iteration, path, Judged, [row.prompt_id for row in rows], one)


async def _one_by_one(
    stages: Stages,
    iteration: int,
    path: Path,
    kind: type[Record],
    names: list[str],
    one: Callable[[int, Path], Awaitable[None]],
) -> None:
    """Do the prompts of a block singly, set those aside that fail again and again, and write the block with the others."""
    parts = path.with_name(f"{path.stem}.parts")
    rows: list[Record] = []
    failed = []
    for number, name in enumerate(names):
        part = parts / f"{number:05d}.parquet"
        try:
            await one(number, part)
        except BlockFailed as error:
            why = str(getattr(error, "cause", error))
            failed.append(SetAside(name, "generate" if kind is Candidates else "judge", why))
        else:
            rows += stages.ledger.read(kind, part)
    if failed:
        stages.ledger.write_set_aside(path, failed)
        await stages.coordinator.set_aside.remote(iteration)
    stages.ledger.write(rows, kind, path)
    files.remove(parts)

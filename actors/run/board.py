"""How far an iteration is, and who waits for what: the part of the coordinator that stages and trainer talk to.

In: blocks, steps and policies, as they are done. Out: the answers that let the others go on; the run's status.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable

from sppo_ray.records import StepNumbers
from sppo_ray.reporting import RunStatus, new_stages


class Board:
    """One iteration is open at a time. Its methods are called by many actors at once, and may be told a thing twice."""

    def __init__(self, iterations: int = 1) -> None:
        self._status = RunStatus(iterations=iterations)
        self._reference = ""  # the snapshot that the open iteration samples from
        self._done: set[tuple[str, int, int]] = set()  # blocks: stage, iteration, number
        self._granted = 0  # the last optimizer step of the open iteration that a train worker may take
        self._trainer_starts: Counter[int] = Counter()  # by iteration
        self._published: set[int] = set()  # iterations
        self._advance: dict[str, float] = {}  # what publishing took, and when it was done
        self._stopping = False
        self._news = asyncio.Condition()

    async def status(self) -> RunStatus:
        return self._status

    async def begin(self, iteration: int, prompts: int, reference: str, epochs: int = 1) -> None:
        """Open an iteration, which samples from the snapshot of that name, to the stages and the trainer."""
        self._granted, self._advance = 0, {}
        self._status.stages = new_stages(prompts, epochs)
        self._status.step, self._status.set_aside = None, 0
        self._status.trainer_restarts = max(0, self._trainer_starts[iteration] - 1)
        self._status.iteration, self._reference = iteration, reference
        await self._tell()

    async def sampling(self, iteration: int) -> str:
        """Return when an iteration is open: the name of the snapshot that it samples from."""
        await self._until(lambda: self._status.iteration >= iteration)
        return self._reference

    async def done(self, stage: str, iteration: int, block: int, prompts: int) -> None:
        """A block is sampled (stage `generate`) or judged."""
        if (stage, iteration, block) not in self._done:
            self._done.add((stage, iteration, block))
            self._status.stages[stage].add(prompts)
            await self._tell()

    async def judged(self, iteration: int, block: int) -> None:
        """Return when a block is judged."""
        await self._until(lambda: ("judge", iteration, block) in self._done)

    async def training(self, iteration: int) -> None:
        """A trainer has started, or started again, on an iteration."""
        self._trainer_starts[iteration] += 1
        self._status.trainer_restarts = max(0, self._trainer_starts[self._status.iteration] - 1)

    async def may_step(self, step: int) -> bool:
        """Whether a train worker may take an optimizer step; waits while the run is paused. False: the run is to stop.

        All workers get the same answer for a step, or some would wait in a collective operation for the others.
        """
        await self._until(lambda: step <= self._granted or self._stopping or not self._status.paused)
        if step > self._granted and self._stopping:
            return False
        self._granted = max(self._granted, step)
        return True

    async def trained(self, numbers: StepNumbers, pairs: int) -> None:
        """An optimizer step is taken; pairs: of the iteration, so far."""
        self._status.stages["train"].reach(pairs)
        self._status.step = numbers.row()

    async def publishing(self) -> None:
        self._status.phase = "publishing"

    async def advanced(self, seconds: dict[str, float]) -> None:
        """What the parts of a publication took."""
        self._advance = seconds | {"done": time.time()}

    async def published(self, iteration: int) -> None:
        """An iteration's policy is there."""
        self._published.add(iteration)
        await self._tell()

    def _scored(self) -> bool:
        judging = self._status.stages["judge"]
        return judging.done == judging.total

    async def _until(self, reached: Callable[[], bool]) -> None:
        async with self._news:
            await self._news.wait_for(reached)

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

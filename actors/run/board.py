"""Progress of the open iteration, and who waits for what: the part of the coordinator that scoring and trainer talk to.

In: blocks, steps and policies, as they are done. Out: the answers that let the others go on; the run's status.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable

from actors.run.scoring import EnginePools, score
from sppo_ray.records import SetAside, Snapshot, StepNumbers
from sppo_ray.reporting import RunStatus, TokenCount, new_stages


class Board:
    """One iteration is open at a time. Many actors call its methods at once, and may report the same thing twice."""

    def __init__(self, iterations: int = 1) -> None:
        self._status = RunStatus(iterations=iterations)
        self._done: set[tuple[str, int, int]] = set()  # blocks: stage, iteration, number
        self._anchored: set[tuple[int, int, int]] = set()  # blocks: iteration, anchor, number
        self._granted = 0  # the last optimizer step of the open iteration that a train worker may take
        self._trainer_starts: Counter[int] = Counter()  # by iteration
        self._saving = False  # the trainer is writing a checkpoint or publishing
        self._published: set[int] = set()  # iterations
        self._tokens = TokenCount(None)  # of the open iteration
        self._advance: dict[str, float] = {}  # seconds of the parts of publishing, and when it was done
        self._stopping = False
        self._news = asyncio.Condition()

    async def status(self) -> RunStatus:
        return self._status

    async def begin(self, iteration: int, prompts: int, epochs: int = 1, anchors: int = 0) -> None:
        """Open an iteration to scoring and trainer. anchors: besides the current policy."""
        self._granted, self._advance = 0, {}
        self._status.stages = new_stages(prompts, epochs, anchors)
        for stage in self._status.stages.values():
            stage.pause(self._status.paused)
        self._status.step, self._status.set_aside = None, 0
        self._status.trainer_restarts = max(0, self._trainer_starts[iteration] - 1)
        self._status.iteration = iteration
        await self._tell()

    async def score(self, pools: EnginePools, iteration: int, snapshot: str) -> None:
        """Have every prompt of an iteration sampled from the snapshot of that name, and judged."""
        self._tokens = TokenCount(self._status.pools.get("generators"))
        self._status.stages["generate"].begin()
        await score(pools, iteration, snapshot, self)

    async def turn(self, pool: str) -> None:
        """The work that follows is for this pool."""

    async def done(
        self, stage: str, iteration: int, block: int, prompts: int, kept: bool = False, tokens: int | None = None
    ) -> None:
        """A block is sampled (stage `generate`) or judged (stage `judge`).

        kept: it was in the run folder already.  tokens: of its responses, where that is known.
        """
        if (stage, iteration, block) in self._done:
            return
        self._done.add((stage, iteration, block))
        self._status.stages[stage].add(prompts, kept)
        if tokens:
            self._tokens.finish(prompts, tokens)
        if stage == "generate":
            self._count_tokens()
            self._status.stages["judge"].begin()
        self._begin_training()
        await self._tell()

    def _count_tokens(self) -> None:
        """Note how much of the sampling is under way, by the tokens that the generators say they have sampled."""
        stage, pool = self._status.stages.get("generate"), self._status.pools.get("generators")
        if stage and pool and stage.began is not None:
            stage.under_way = min(self._tokens.under_way(pool), stage.total - stage.done)

    def _begin_training(self) -> None:
        """Training can begin once a trainer is there and a block is scored."""
        stages = self._status.stages
        if self._trainer_starts[self._status.iteration] and stages["anchor" if "anchor" in stages else "judge"].done:
            stages["train"].begin()

    async def set_aside(self, iteration: int, prompts: list[SetAside]) -> None:
        """Prompts of an iteration that failed on every engine, or whose responses cannot be compared."""
        self._status.set_aside += len(prompts)

    async def judge_unavailable(self, reason: str) -> None:
        """The judge can compare nothing for now: the run pauses, unless it is to stop."""
        if not self._stopping:
            await self._set_paused(True, reason)

    async def _set_paused(self, paused: bool, reason: str | None = None) -> None:
        self._status.paused, self._status.pause_reason = paused, reason
        for stage in self._status.stages.values():
            stage.pause(paused)

    async def judged(self, iteration: int, *blocks: int) -> None:
        """Return when these blocks are judged."""
        await self._until(lambda: all(("judge", iteration, block) in self._done for block in blocks))

    async def anchored(self, iteration: int, anchor: int, block: int, prompts: int, kept: bool = False) -> None:
        """The trained responses of a block have their log-probabilities under an anchor, the snapshot of that number."""
        if (iteration, anchor, block) not in self._anchored:
            self._anchored.add((iteration, anchor, block))
            stage = self._status.stages["anchor"]
            stage.add(prompts, kept)
            if stage.done == stage.total:
                self._status.phase = "training"
            self._begin_training()
            await self._tell()

    def anchoring(self, snapshot: Snapshot) -> None:
        """The generators are to load an anchor."""
        self._status.phase = f"anchoring at {snapshot.name}"
        self._status.stages["anchor"].begin()

    async def scored(self, iteration: int, anchors: list[int], blocks: list[int]) -> None:
        """Return when these blocks are judged, and have the log-probabilities under these anchors."""
        await self.judged(iteration, *blocks)
        wanted = {(iteration, anchor, block) for anchor in anchors for block in blocks}
        await self._until(lambda: wanted <= self._anchored)

    async def training(self, iteration: int, pairs: int | None = None) -> None:
        """A trainer has started, or started again, on an iteration. pairs: that it will train, over all epochs."""
        if pairs and iteration == self._status.iteration:
            self._status.stages["train"].total = pairs
        self._trainer_starts[iteration] += 1
        self._status.trainer_restarts = max(0, self._trainer_starts[self._status.iteration] - 1)
        if iteration == self._status.iteration:
            self._begin_training()
        await self.saving(False)  # whatever the one before it was writing

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
        self._status.stages["train"].reach(pairs, numbers.pairs)
        self._status.step = numbers.row()

    async def saving(self, under_way: bool) -> None:
        """The trainer begins or ends writing a checkpoint; a stop waits for it."""
        self._saving = under_way
        await self._tell()

    async def publishing(self) -> None:
        self._status.phase = "publishing"
        await self.saving(True)

    async def advanced(self, seconds: dict[str, float]) -> None:
        """Seconds that the parts of a publication took."""
        self._advance = seconds | {"done": time.time()}

    async def published(self, iteration: int) -> None:
        """An iteration's policy is complete in the run folder."""
        self._published.add(iteration)
        await self.saving(False)

    async def _until(self, reached: Callable[[], bool]) -> None:
        async with self._news:
            await self._news.wait_for(reached)

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

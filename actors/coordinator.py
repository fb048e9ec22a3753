"""The loop over iterations: score, train, publish, load, evaluate.

In: pools, a ledger with the prompts of each iteration, the base model. Out: published snapshots and the report.
"""

import asyncio
import os
import time
from typing import Any

import ray
from ray.data import DataContext

from actors.evaluation import compare_held_out, sample_held_out
from actors.pipeline import Stages, prompt_blocks, scored_blocks, training_pairs
from actors.trainer import Job, fit
from sppo_ray.config import Config
from sppo_ray.errors import RunFailed
from sppo_ray.evaluation import Rule
from sppo_ray.ledger import Ledger
from sppo_ray.progress import RunStatus, new_stages
from sppo_ray.records import Prompt, Snapshot
from sppo_ray.report import iteration_report, run_warnings, write_run_report


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class Coordinator:
    def __init__(self, config: Config, ledger: Ledger, base: Snapshot, rule: Rule | None) -> None:
        self._config = config
        self._ledger = ledger
        self._base = base
        # At Ray's default every report of a checkpoint waits up to two seconds.
        os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
        DataContext.get_current().enable_progress_bars = False  # the driver prints progress in lines
        self._rule = rule
        self._status = RunStatus()
        self._judged: set[tuple[int, int]] = set()
        self._failure: BaseException | None = None
        self._stopped = RunFailed("the trainer ended without publishing a policy")
        self._news = asyncio.Condition()

    def __repr__(self) -> str:
        return f"iteration {self._status.iteration} of {self._config.iterations}: {self._status.phase}"

    async def run(self, generators: Any, rankers: Any) -> None:
        """Run every iteration that the ledger does not have yet, on these pools."""
        # The pools come here and not to the constructor: Ray repeats a call with its arguments when the actor restarts.
        stages = Stages(self._config, self._ledger, generators, rankers, ray.get_runtime_context().current_actor)
        done = self._ledger.finished_iterations()
        snapshot = self._ledger.snapshot(done) or self._base
        self._status.phase = "starting engines"
        await asyncio.gather(generators.open.remote(snapshot), rankers.open.remote())
        if done == 0:
            self._status.phase = "evaluating the base"
            await sample_held_out(stages, 0, snapshot)
        for iteration in range(done + 1, self._config.iterations + 1):
            snapshot = await self._iterate(stages, iteration, snapshot)
        self._status.phase = "finished"

    async def _iterate(self, stages: Stages, iteration: int, reference: Snapshot) -> Snapshot:
        started = time.time()
        prompts = self._ledger.prompts(iteration)
        self._status = RunStatus(
            iteration, "sampling, judging, training", new_stages(len(prompts)), warnings=self._status.warnings
        )
        snapshot = self._ledger.snapshot(iteration) or await self._train(stages, iteration, reference, prompts)
        self._status.phase = "loading the new policy"
        trained = time.time()
        await stages.generators.load.remote(snapshot)
        loaded = time.time()
        self._status.phase = "evaluating"
        await sample_held_out(stages, iteration, snapshot)
        evaluation = await compare_held_out(stages, iteration, self._rule)
        seconds = self._seconds(trained, loaded) | {"evaluate": time.time() - loaded, "total": time.time() - started}
        engines = {
            name: [member.pid for member in await pool.status.remote()]
            for name, pool in (("generators", stages.generators), ("rankers", stages.rankers))
        }
        self._status.phase = "reporting"
        report = await asyncio.to_thread(iteration_report, self._ledger, iteration, evaluation, seconds, engines)
        self._ledger.write_report(iteration, report)
        self._status.warnings = run_warnings(await asyncio.to_thread(write_run_report, self._ledger))
        return snapshot

    async def _train(self, stages: Stages, iteration: int, reference: Snapshot, prompts: list[Prompt]) -> Snapshot:
        """Sample, judge and train at the same time; what ends one of them ends all."""
        job = Job(self._config, self._ledger, iteration, reference, len(prompts), stages.coordinator)
        snapshot, _ = await asyncio.gather(
            asyncio.to_thread(lambda: fit(job, training_pairs(stages, iteration, len(prompts)))),
            self._score(stages, iteration, reference, prompts),
        )
        return snapshot

    async def _score(self, stages: Stages, iteration: int, snapshot: Snapshot, prompts: list[Prompt]) -> None:
        loop = asyncio.get_running_loop()

        def score() -> None:
            blocks = prompt_blocks(prompts, self._config.block)
            for block in scored_blocks(stages, iteration, snapshot.name, blocks):
                asyncio.run_coroutine_threadsafe(self._tell(iteration, block), loop).result()

        try:
            await asyncio.to_thread(score)
        except Exception as error:
            self._failure = error
            await self._tell()
            raise

    async def _tell(self, *judged: int) -> None:
        async with self._news:
            if judged:
                self._judged.add((judged[0], judged[1]))
            self._news.notify_all()

    # Called by the stages and by the trainer

    async def judged(self, iteration: int, block: int) -> None:
        """Return when a block of an iteration is judged; raise if that can no longer happen."""
        async with self._news:
            await self._news.wait_for(lambda: (iteration, block) in self._judged or self._failure)
        if (iteration, block) not in self._judged:
            raise RunFailed(f"iteration {iteration}: sampling and judging stopped: {self._failure}")

    async def progress(self, stage: str, count: int) -> None:
        self._status.stages[stage].add(count)

    async def trained(self, numbers: Any, pairs: int) -> None:
        self._status.stages["train"].reach(pairs)
        self._status.loss = numbers.loss

    async def stop(self, error: RunFailed) -> None:
        self._stopped = error

    async def stopped_by(self) -> RunFailed:
        return self._stopped

    async def publishing(self) -> None:
        self._status.phase = "publishing"

    async def status(self) -> RunStatus:
        return self._status

    def _seconds(self, trained: float, loaded: float) -> dict[str, float]:
        seconds = {name: stage.seconds for name, stage in self._status.stages.items()}
        last = self._status.stages["train"].last or trained
        return seconds | {"advance": loaded - last}

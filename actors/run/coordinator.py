"""The loop over iterations: score, train, publish, load, evaluate; and how a person pauses, scales and stops it.

In: pools, a ledger with the prompts of each iteration, the base model. Out: published snapshots and the report.
"""

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import ray

from actors.cluster.placement import here
from actors.run.blocks import Stages
from actors.run.board import Board
from actors.run.evaluation import compare_held_out, sample_held_out
from actors.run.pipeline import score, training_pairs
from sppo_ray.config import Config
from sppo_ray.errors import ConfigError, RunFailed, RunStopped, SppoError
from sppo_ray.evaluation import Rule
from sppo_ray.records import Snapshot, StepNumbers
from sppo_ray.reporting.report import iteration_report, run_warnings, write_run_report
from sppo_ray.reporting.trackers import Trackers
from sppo_ray.run_folder import Ledger

WATCH_SECONDS = 1.0
EVALUATED = ("win_rate_vs_base", "win_rate_vs_previous", "mean_response_tokens")
STOP_SECONDS = 60.0  # that a trainer has to reach its next step and write a checkpoint


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class Coordinator(Board):
    def __init__(self, config: Config, ledger: Ledger, base: Snapshot, rule: Rule | None) -> None:
        super().__init__(config.iterations)
        self._config = config
        self._ledger = ledger
        self._base = base
        # At Ray's default every report of a checkpoint waits up to two seconds.
        os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
        # A process more, whose notices the train loop has no use for.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        self._rule = rule
        self._pools: dict[str, Any] = {}
        self._serving: Snapshot = base  # what the generators are to hold
        self._asleep = False
        self._work: list[asyncio.Task[None]] = []
        self._end: asyncio.Future[None]  # what ends the run before its time

    def __repr__(self) -> str:
        return f"Coordinator({self._config.recipe})"

    async def run(self, generators: Any, rankers: Any) -> None:
        """Run every iteration that the ledger does not have yet, on these pools. Raises what ended the run."""
        # The pools come here and not to the constructor: Ray repeats a call with its arguments when the actor restarts.
        self._pools = {"generators": generators, "rankers": rankers}
        self._end = asyncio.get_running_loop().create_future()
        self._trackers = await asyncio.to_thread(Trackers, self._config, self._ledger.root)
        stages = Stages(self._config, self._ledger, generators, rankers, ray.get_runtime_context().current_actor)
        work = [asyncio.ensure_future(self._iterations(stages)), asyncio.ensure_future(self._watch()), self._end]
        done, rest = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        for other in rest:
            other.cancel()
        await asyncio.to_thread(self._trackers.close)
        for finished in done:
            finished.result()

    async def _iterations(self, stages: Stages) -> None:
        done, snapshot = await asyncio.to_thread(self._ledger.resume)
        reference = snapshot or self._base
        # Published when the run was cut off, but not evaluated yet.
        published = await asyncio.to_thread(self._ledger.verified_snapshot, done + 1)
        self._start_work(stages, range(done + (2 if published else 1), self._config.iterations + 1))
        self._status.phase = "starting engines"
        await self._open(reference)
        if done == 0:
            self._status.phase = "evaluating the base"
            await sample_held_out(stages, 0, reference)
        for iteration in range(done + 1, self._config.iterations + 1):
            reference = await self._iterate(stages, iteration, reference, published)
            published = None
        await asyncio.gather(*self._work)
        self._status.phase = "finished"

    def _start_work(self, stages: Stages, iterations: range) -> None:
        """Start sampling, judging and training, while the engines start: each waits until its iteration begins."""
        if iterations:
            self._work.append(self._start(score, stages, iterations))
        if iterations and self._config.placement == "disaggregated":
            self._work.append(self._start_trainer(stages, iterations))

    def _start_trainer(self, stages: Stages, iterations: range) -> asyncio.Task[None]:
        """Have these iterations trained, each as soon as its pairs are judged; the task ends after the last one."""
        # Who is handed a coordinator loads its class and what that names: this would be torch, in every stage and pool.
        from actors.run.trainer import Job, fit

        job = Job(self._config, self._ledger, self._base, iterations, stages.coordinator)

        def train() -> None:
            fit(job, {t: training_pairs(stages, t, len(self._ledger.prompts(t))) for t in iterations})

        return self._start(train)

    def _start(self, work: Callable[..., None], *arguments: Any) -> asyncio.Task[None]:
        """Work in a thread, whose failure ends the run."""

        async def watched() -> None:
            try:
                await asyncio.to_thread(work, *arguments)
            except Exception as error:
                own = _own(error)
                await self.fail(own)
                raise own from error

        return asyncio.create_task(watched())

    async def _iterate(
        self, stages: Stages, iteration: int, reference: Snapshot, published: Snapshot | None
    ) -> Snapshot:
        started = time.time()
        self._steps_before = sum(report["steps"] for report in self._ledger.reports())
        prompts, epochs = len(self._ledger.prompts(iteration)), stages.config.training.epochs
        await self.begin(iteration, prompts, reference.name, epochs)
        snapshot = published or await self._train(stages, iteration)
        self._status.phase = "loading the new policy"
        trained = time.time()
        await self._open(snapshot)
        loaded = time.time()
        self._status.phase = "evaluating"
        await sample_held_out(stages, iteration, snapshot)
        evaluation = await compare_held_out(stages, iteration, self._rule)
        seconds = self._seconds(trained, loaded) | {"evaluate": time.time() - loaded, "total": time.time() - started}
        self._status.phase = "reporting"
        report = await asyncio.to_thread(
            iteration_report, self._ledger, iteration, evaluation, seconds, await self._engines(started)
        )
        self._ledger.write_report(iteration, report)
        self._trackers.log(
            self._steps_before + report["steps"], {f"held_out/{name}": report[name] for name in EVALUATED}
        )
        self._status.warnings = run_warnings(await asyncio.to_thread(write_run_report, self._ledger))
        await asyncio.to_thread(self._ledger.prune, self._config.storage.keep_snapshots, snapshot)
        return snapshot

    async def _train(self, stages: Stages, iteration: int) -> Snapshot:
        """Sample, judge and train: at the same time, or one after the other on the same devices."""
        colocated = self._config.placement == "colocated"
        self._status.phase = "sampling, judging" if colocated else "sampling, judging, training"
        await self._until(self._scored)
        await self._rest()
        if colocated:
            await self._sleep()
            self._status.phase = "training"
            # Its processes end with the iteration: only then is all of the devices' memory free for the engines.
            await self._start_trainer(stages, range(iteration, iteration + 1))
        else:
            await self._until(lambda: iteration in self._published)
        snapshot = self._ledger.snapshot(iteration)
        assert snapshot is not None
        return snapshot

    # The pools

    async def _open(self, snapshot: Snapshot) -> None:
        self._serving, self._asleep = snapshot, False
        await asyncio.gather(*(self._open_pool(name) for name in self._pools))

    async def _open_pool(self, name: str) -> None:
        await self._pools[name].open.remote(self._serving if name == "generators" else None)

    async def _rest(self) -> None:
        await asyncio.gather(*(pool.rest.remote() for pool in self._pools.values()))

    async def _sleep(self) -> None:
        self._asleep = True
        await asyncio.gather(*(pool.sleep.remote() for pool in self._pools.values()))

    async def _watch(self) -> None:
        """Keep the status up to date, and open a pool again whose own process was restarted."""
        while True:
            for name, pool in self._pools.items():
                status = await pool.status.remote()
                if self._status.pools.get(name) and not status.members:
                    await self._open_pool(name)
                    if self._asleep:
                        await pool.sleep.remote()
                self._status.pools[name] = status
            await asyncio.sleep(WATCH_SECONDS)

    async def _engines(self, since: float) -> dict[str, Any]:
        """For the report: process ids of the engines, and what was lost on the way since a time."""
        statuses = {name: await pool.status.remote() for name, pool in self._pools.items()}
        return {
            "engine_pids": {name: [member.pid for member in status.members] for name, status in statuses.items()},
            "outages": [
                asdict(outage) for status in statuses.values() for outage in status.outages if outage.at >= since
            ],
            "trainer_restarts": self._status.trainer_restarts,
        }

    # Called by the stages and by the trainer

    async def set_aside(self, iteration: int) -> None:
        """Count the prompts that were set aside, and end the run if they are too many."""
        prompts = self._ledger.set_aside(iteration)
        self._status.set_aside = len(prompts)
        share = len(prompts) / self._status.stages["generate"].total
        if share > self._config.max_set_aside:
            await self.fail(
                RunFailed(
                    f"iteration {iteration}: engines failed on {len(prompts)} prompts, {share:.1%}; max_set_aside is "
                    f"{self._config.max_set_aside:.1%}. The last is {prompts[-1].prompt_id}: {prompts[-1].why}"
                )
            )

    async def trained(self, numbers: StepNumbers, pairs: int) -> None:
        await super().trained(numbers, pairs)
        self._trackers.log(
            self._steps_before + numbers.step, {f"train/{name}": value for name, value in numbers.row().items()}
        )

    async def fail(self, error: BaseException) -> None:
        """End the run with this error."""
        if not self._end.done():
            self._end.set_exception(error)

    # Called by people, through the driver or the gateway

    async def pause(self) -> None:
        """Start no block and no optimizer step any more, until `resume`; those in progress end."""
        self._status.paused = True
        await asyncio.gather(*(pool.pause.remote() for pool in self._pools.values()))

    async def resume(self) -> None:
        self._status.paused = False
        await self._tell()
        await asyncio.gather(*(pool.resume.remote() for pool in self._pools.values()))

    async def stop(self) -> None:
        """End the run in order: blocks in progress are finished, the trainer writes a checkpoint."""
        self._stopping = True
        await self._tell()
        self._status.phase = "stopping"
        await asyncio.gather(*(pool.pause.remote() for pool in self._pools.values()))
        self._late = asyncio.create_task(self._stop_late())

    async def _stop_late(self) -> None:
        """End a run whose trainer waits for pairs that will not come, or that is not training."""
        await asyncio.sleep(STOP_SECONDS)
        await self.fail(RunStopped())

    async def scale(self, pool: str, target: int) -> None:
        """Have that many members in a pool. Raises `ConfigError` for a pool or a number that cannot be."""
        if pool not in self._pools:
            raise ConfigError(f"there is no pool {pool}; there are {' and '.join(self._pools)}")
        await self._pools[pool].scale.remote(target)

    def _seconds(self, trained: float, loaded: float) -> dict[str, float]:
        seconds = {name: stage.seconds for name, stage in self._status.stages.items()}
        last = self._status.stages["train"].last or trained
        # Gather, write and digest overlap; then the train workers end, then the engines load.
        advance = dict(self._advance)
        after = {"trainer_end": trained - advance.pop("done", trained), "load": loaded - trained}
        return seconds | {"advance": loaded - last} | advance | after


def start_coordinator(config: Config, ledger: Ledger, base: Snapshot, rule: Rule | None) -> Any:
    """The coordinator of a run, on this node. rule: what else the held-out answers are judged by."""
    return Coordinator.options(label_selector=here()).remote(config, ledger, base, rule)


def _own(error: BaseException) -> BaseException:
    """The project's own exception among the causes of an error, where there is one."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(getattr(cause, "cause", None), SppoError):
            return cause.cause
        if isinstance(cause, SppoError):
            return cause
        cause = getattr(cause, "cause", None) or cause.__cause__
    return error

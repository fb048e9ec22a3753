"""The loop over iterations: score, train, publish, load, evaluate; and how a person pauses, scales and stops it.

In: pools, a ledger with the prompts of each iteration, the base model. Out: published snapshots and the report.
"""

import asyncio
import os
import time
from dataclasses import asdict, replace
from typing import Any

import ray

from actors.cluster.placement import here
from actors.engines import PoolState
from actors.run.anchoring import anchor
from actors.run.board import Board
from actors.run.desired import read_desired, write_desired
from actors.run.evaluation import compare_held_out, sample_held_out
from actors.run.scoring import EnginePools, check_set_aside
from sppo_ray.config import Config
from sppo_ray.errors import ConfigError, RunFailed, RunStopped, own_cause
from sppo_ray.evaluation import Rule
from sppo_ray.records import SetAside, Snapshot, StepNumbers
from sppo_ray.reporting.report import iteration_report, run_warnings, write_run_report
from sppo_ray.reporting.trackers import Trackers
from sppo_ray.run_folder import Ledger

WATCH_SECONDS = 1.0
EVALUATED = ("win_rate_vs_base", "win_rate_vs_previous", "mean_response_tokens")
STOP_SECONDS = 60.0  # for a trainer to reach its next step; writing a checkpoint after that takes as long as it takes


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, enable_task_events=False)  # type: ignore[call-overload]
class Coordinator(Board):
    def __init__(self, config: Config, ledger: Ledger, base: Snapshot, rule: Rule | None) -> None:
        super().__init__(config.iterations)
        self._config, self._ledger, self._base = config, ledger, base
        # At Ray's default every report of a checkpoint waits up to two seconds.
        os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
        # One process less; the train loop has no use for its notices.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        self._rule = rule
        self._pools: dict[str, Any] = {}
        self._serving: Snapshot | None = None  # the policy that the generators are to hold, once that is known
        self._asleep: set[str] = set()  # pools
        self._idle = False
        self._desired = read_desired(ledger.root)
        self._status.paused, self._status.pause_reason = self._desired.paused, self._desired.pause_reason
        self._trainer: asyncio.Task[None] | None = None
        self._end: asyncio.Future[None]  # set by whatever ends the run early

    def __repr__(self) -> str:
        return f"Coordinator({self._config.recipe})"

    async def run(self, generators: Any, rankers: Any) -> None:
        """Run every iteration that the ledger does not have yet, on these pools. Raises what ended the run."""
        # The pools come here and not to the constructor: Ray repeats a call with its arguments when the actor restarts.
        self._pools = {"generators": generators, "rankers": rankers}
        self._end = asyncio.get_running_loop().create_future()
        self._trackers = Trackers(self._config, self._ledger.root)
        pools = EnginePools(self._config, self._ledger, generators, rankers, self.judge_unavailable)
        work = [asyncio.ensure_future(self._iterations(pools)), asyncio.ensure_future(self._watch()), self._end]
        done, rest = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        for other in rest:
            other.cancel()
        await asyncio.to_thread(self._trackers.close)
        try:
            for finished in done:
                finished.result()
        except Exception as error:
            raise own_cause(error) from error

    async def _iterations(self, pools: EnginePools) -> None:
        done, snapshot = await asyncio.to_thread(self._ledger.resume)
        reference = snapshot or self._base
        # Published when the run was cut off, but not evaluated yet.
        published = await asyncio.to_thread(self._ledger.verified_snapshot, done + 1)
        untrained = range(done + (2 if published else 1), self._config.iterations + 1)
        if untrained and self._config.placement != "colocated":
            self._start_trainer(untrained)  # while the engines start
        self._status.phase = "starting engines"
        await self._open(reference)
        if done == 0:
            self._status.phase = "evaluating the base"
            await sample_held_out(pools, 0, reference)
        for iteration in range(done + 1, self._config.iterations + 1):
            reference = await self._iterate(pools, iteration, reference, published)
            published = None
        if self._trainer is not None:
            await self._trainer
        self._status.phase = "finished"

    async def _iterate(
        self, pools: EnginePools, iteration: int, reference: Snapshot, published: Snapshot | None
    ) -> Snapshot:
        started = time.time()
        self._steps_before = sum(report["steps"] for report in await asyncio.to_thread(self._ledger.reports))
        training = self._config.training
        others = len(training.other_anchors(iteration))
        prompts = await asyncio.to_thread(self._ledger.prompts, iteration)
        await self.begin(iteration, len(prompts), training.epochs, others)
        self._status.set_aside = len(await asyncio.to_thread(self._ledger.set_aside, iteration))
        snapshot = published or await self._score_and_train(pools, iteration, reference)
        self._status.phase = "loading the new policy"
        trained = time.time()
        await self._open(snapshot)
        loaded = time.time()
        self._status.phase = "evaluating"
        await sample_held_out(pools, iteration, snapshot)
        await self.turn("rankers")
        evaluation = await compare_held_out(pools, iteration, self._rule)
        seconds = self._seconds(trained, loaded) | {"evaluate": time.time() - loaded, "total": time.time() - started}
        self._status.phase = "reporting"
        report = await asyncio.to_thread(
            iteration_report, self._ledger, iteration, evaluation, seconds, await self._engines(started)
        )
        await asyncio.to_thread(self._ledger.write_report, iteration, report)
        self._trackers.log(
            self._steps_before + report["steps"], {f"held_out/{name}": report[name] for name in EVALUATED}
        )
        self._status.warnings = run_warnings(await asyncio.to_thread(write_run_report, self._ledger))
        await asyncio.to_thread(
            self._ledger.prune, self._config.storage.keep_snapshots, snapshot, training.other_anchors(iteration + 1)
        )
        return snapshot

    async def _score_and_train(self, pools: EnginePools, iteration: int, reference: Snapshot) -> Snapshot:
        """Sample, judge and train: at the same time, or one after the other on the same devices."""
        colocated = self._config.placement == "colocated"
        self._status.phase = "sampling, judging" if colocated else "sampling, judging, training"
        await self.turn("generators")
        await self.score(pools, iteration, reference.name)
        await anchor(pools, iteration, self._base, self._open, self)
        self._idle = True
        if colocated:
            self._asleep = set(self._pools)
            await self._settle_pools()
            self._status.phase = "training"
            # Its processes end with the iteration: only then is all of the devices' memory free for the engines.
            await self._start_trainer(range(iteration, iteration + 1))
        else:
            await self._until(lambda: iteration in self._published)
        snapshot = await asyncio.to_thread(self._ledger.snapshot, iteration)
        assert snapshot is not None
        return snapshot

    def _start_trainer(self, iterations: range) -> asyncio.Task[None]:
        """Train these iterations, each as soon as its pairs are judged; the task ends after the last one."""
        myself = ray.get_runtime_context().current_actor

        def train() -> None:
            # Imported lazily: pickling a coordinator handle imports this module, and torch with it. Here and not in the event
            # loop, which has the engines started meanwhile.
            from actors.run.trainer import Job, fit

            fit(Job(self._config, self._ledger, self._base, iterations, myself))

        async def watched() -> None:
            try:
                await asyncio.to_thread(train)
            except Exception as error:
                await self.fail(error)
                raise

        self._trainer = asyncio.create_task(watched())
        return self._trainer

    # The pools

    async def _open(self, snapshot: Snapshot) -> None:
        """Have the generators serve with this policy, and the judges serve unless they wait for their turn."""
        self._serving, self._idle = snapshot, False
        self._asleep = {"rankers"} if self._config.takes_turns else set()
        await self._settle_pools()

    async def turn(self, pool: str) -> None:
        """Where generators and rankers share a GPU: have this pool awake and the other asleep."""
        others = set(self._pools) - {pool}
        if self._config.takes_turns and self._asleep != others:
            self._asleep = set(self._pools)
            await self._settle_pools()  # only then is there memory to wake up in
            self._asleep = others
            await self._settle_pools()

    async def _settle_pools(self) -> None:
        await self._tell_pools()
        await asyncio.gather(*(pool.settled.remote() for pool in self._pools.values()))

    async def _tell_pools(self) -> None:
        """Send each pool the state that it is to have, whether it has it already or has just restarted; keep its status."""
        if self._serving is not None:
            for name, pool in self._pools.items():
                self._status.pools[name] = await pool.desire.remote(self._pool_state(name))
            self._count_tokens()

    def _pool_state(self, name: str) -> PoolState:
        return PoolState(
            snapshot=self._serving if name == "generators" else None,
            target=self._desired.targets.get(name),
            paused=self._desired.paused or self._stopping,
            asleep=name in self._asleep,
            idle=self._idle,
        )

    async def _watch(self) -> None:
        while True:
            await self._tell_pools()
            await asyncio.sleep(WATCH_SECONDS)

    async def _engines(self, since: float) -> dict[str, Any]:
        """For the report: process ids of the engines, and the outages since a time."""
        statuses = {name: await pool.status.remote() for name, pool in self._pools.items()}
        return {
            "engine_pids": {name: [member.pid for member in status.members] for name, status in statuses.items()},
            "outages": [
                asdict(outage) for status in statuses.values() for outage in status.outages if outage.at >= since
            ],
            "trainer_restarts": self._status.trainer_restarts,
        }

    # Called by scoring and by the trainer

    async def set_aside(self, iteration: int, prompts: list[SetAside]) -> None:
        """Count the prompts that were set aside, and end the run if they are too many."""
        if not prompts:
            return
        prompts = await asyncio.to_thread(self._ledger.set_aside, iteration)
        self._status.set_aside = len(prompts)
        total, last = self._status.stages["generate"].total, f"{prompts[-1].prompt_id}: {prompts[-1].why}"
        try:
            check_set_aside(self._config, f"iteration {iteration}: {{}} prompts", len(prompts), total, last)
        except RunFailed as error:
            await self.fail(error)

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
        """Start no new block and no optimizer step until `resume`; those in progress finish."""
        await self._set_paused(True)

    async def resume(self) -> None:
        await self._set_paused(False)
        await self._tell()

    async def stop(self) -> None:
        """End the run in order: blocks in progress are finished, the trainer writes a checkpoint."""
        self._stopping = True
        await self._set_paused(False)  # the same command continues the run
        await self._tell()
        self._status.phase = "stopping"
        self._late = asyncio.create_task(self._stop_late())

    async def _stop_late(self) -> None:
        """End a run whose trainer waits for pairs that will not come, or that is not training; never while it saves."""
        await asyncio.sleep(STOP_SECONDS)
        await self._until(lambda: not self._saving)
        await self.fail(RunStopped())

    async def scale(self, pool: str, target: int) -> None:
        """Set how many members a pool is to have. Raises `ConfigError` for an unknown pool or a number out of range."""
        if pool not in self._pools:
            raise ConfigError(f"there is no pool {pool}; there are {' and '.join(self._pools)}")
        await self._pools[pool].desire.remote(replace(self._pool_state(pool), target=target))
        self._desired.targets[pool] = target
        await asyncio.to_thread(write_desired, self._ledger.root, self._desired)

    async def _set_paused(self, paused: bool, reason: str | None = None) -> None:
        await super()._set_paused(paused, reason)
        self._desired.paused, self._desired.pause_reason = paused, reason
        await asyncio.to_thread(write_desired, self._ledger.root, self._desired)
        await self._tell_pools()

    def _seconds(self, trained: float, loaded: float) -> dict[str, float]:
        seconds = {name: stage.seconds for name, stage in self._status.stages.items()}
        last = self._status.stages["train"].last or trained
        # Gather, write and digest overlap; then the train workers end, then the engines load.
        advance = dict(self._advance)
        after = {"trainer_end": trained - advance.pop("done", trained), "load": loaded - trained}
        return seconds | {"advance": loaded - last} | advance | after


def start_coordinator(config: Config, ledger: Ledger, base: Snapshot, rule: Rule | None) -> Any:
    """The coordinator of a run, on this node. rule: what else the held-out responses are judged by."""
    return Coordinator.options(label_selector=here()).remote(config, ledger, base, rule)

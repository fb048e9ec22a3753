"""The training of iterations: Ray Train workers under DeepSpeed ZeRO-3 that read the dataset of pairs.

In: the pairs, as they are judged. Out: a published snapshot of each iteration.
"""

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
import ray.train
import torch
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.data import ExecutionOptions
from ray.exceptions import RayActorError
from ray.train import (
    CheckpointConfig,
    DataConfig,
    FailureConfig,
    RunConfig,
    WorkerGroupError,
)
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.util.placement_group import PlacementGroup, PlacementGroupID, placement_group_table, remove_placement_group

from actors.cluster.placement import role_options, trainer_scaling
from actors.run import checkpoints
from actors.run.checkpoints import first
from actors.run.pairs import PAIRS, read_shares, training_pairs, training_prompts
from sppo_ray.config import Config, TrainingSettings
from sppo_ray.errors import RunFailed, RunStopped
from sppo_ray.records import Pair, ReferenceGap, Snapshot
from sppo_ray.reporting.cards import model_card
from sppo_ray.run_folder import Ledger, files, local, remote
from sppo_ray.training.memory import memory_remedy, out_of_memory
from sppo_ray.training.schedule import iteration_steps


@dataclass(frozen=True)
class Job:
    """What a train worker needs to know: the iterations it trains, one after the other, each from the policy before it."""

    config: Config
    ledger: Ledger
    base: Snapshot
    iterations: range
    coordinator: Any

    def reference(self, iteration: int) -> Snapshot:
        """The policy that an iteration samples from and starts with."""
        snapshot = self.base if iteration == 1 else self.ledger.snapshot(iteration - 1)
        assert snapshot is not None  # published, or the iteration would not have begun
        return snapshot

    def earlier_k3(self, iteration: int) -> list[float]:
        """The reference gaps of the iterations before one, as KL per token."""
        rows = [row for earlier in range(1, iteration) for row in self.ledger.training_rows(earlier)]
        return [gap.k3 for gap in map(ReferenceGap.of, rows) if gap]

    def pairs(self, iteration: int) -> int:
        """Pairs in an epoch of an iteration. Waits for its last judgement where some are left out.

        Raises `RunFailed` if all are.
        """
        if self.config.training.min_margin:
            blocks = range(-(-len(self.ledger.prompts(iteration)) // self.config.block))
            ray.get(self.coordinator.judged.remote(iteration, *blocks))
        count = len(training_prompts(self.config, self.ledger, iteration))
        if not count:
            raise RunFailed(
                f"iteration {iteration}: the win rates of no pair differ by "
                f"training.min_margin={self.config.training.min_margin:g}; a new run needs a lower one"
            )
        return count


def fit(job: Job) -> None:
    """Train the iterations of a job, one after the other on the same workers, until all are published.

    Raises `RunFailed` with the cause, or `RunStopped` if the coordinator stopped it.
    """
    for failures in itertools.count(1):
        try:
            _trainer(job).fit()
            break
        except WorkerGroupError as error:
            rank, cause = next(iter(error.worker_failures.items()))
            if out_of_memory(cause):  # Ray kills a worker whose node runs low on memory
                raise _no_memory(f"train worker {rank}", cause, job.config) from error
            raise RunFailed(f"train worker {rank}: {type(cause).__name__}: {cause}") from error
        except RayActorError:  # Ray Train's controller died, and Ray does not restart it
            if failures > job.config.training.max_failures:
                raise
    if any(job.ledger.snapshot(iteration) is None for iteration in job.iterations):
        raise RunStopped  # the workers end early only if the coordinator tells them to
    files.remove(job.ledger.checkpoints)
    if job.iterations[-1] == job.config.iterations:
        for iteration in range(1, job.config.iterations):
            files.remove(job.ledger.master(iteration))


def _release_devices() -> None:
    """Remove the placement groups of trainers that died, which Ray keeps until the job ends.

    Not by Ray's State API, which looks for the cluster anew, by RAY_ADDRESS, and may find another one or several.
    """
    job = ray.get_runtime_context().get_job_id()  # with which the id of a group ends
    for number, group in placement_group_table().items():
        if number.endswith(job) and group["state"] != "REMOVED":
            remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(number))))


class _ReleaseDevices(WorkerGroupCallback):
    """Before workers start: those before them are gone, also those of a controller that died.

    Ray Train 2.60 forgets a group one of whose workers dies while they meet in torch's process group: the others wait there for
    half an hour, and the next group for their devices for ever.
    """

    def before_worker_group_start(self, worker_group_context: Any) -> None:
        _release_devices()


class _Trainer(TorchTrainer):
    """Without Ray Train's cleaner of placement groups, a process that outlives the job if the controller is killed."""

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()  # type: ignore[misc]
        kept = [callback for callback in callbacks if not isinstance(callback, PlacementGroupCleanerCallback)]
        return [_ReleaseDevices(), *kept]


def _trainer(job: Job) -> TorchTrainer:
    training = job.config.training
    on_gpu = training.gpus > 0
    return _Trainer(
        work,
        train_loop_config={"job": job},
        torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo"),
        scaling_config=trainer_scaling(job.config),
        run_config=RunConfig(
            name="train",  # the same each time, so that Ray Train finds its checkpoints again
            **_storage(job.ledger),
            checkpoint_config=CheckpointConfig(num_to_keep=job.config.storage.keep_checkpoints),
            failure_config=FailureConfig(max_failures=training.max_failures * len(job.iterations)),
            worker_runtime_env=role_options(job.config, "trainers")["runtime_env"],  # type: ignore[call-arg]
        ),
        # Made anew whenever workers start: those that start again train what is left.
        datasets={PAIRS: partial(training_pairs, job.config, job.ledger, job.coordinator, job.iterations)},
        dataset_config=DataConfig(execution_options=ExecutionOptions(preserve_order=True), enable_shard_locality=False),
    )


def _storage(ledger: Ledger) -> dict[str, Any]:
    folder = ledger.checkpoints
    if url := remote(folder):
        return {"storage_path": url.path, "storage_filesystem": PyFileSystem(FSSpecHandler(url.fs))}
    return {"storage_path": str(folder)}


def work(settings: dict[str, Any]) -> None:
    """One train worker. A `RunFailed` and a lack of memory end the run, for a restart would not help; Ray restarts the rest."""
    job: Job = settings["job"]
    policy, shares = None, read_shares(ray.train.get_dataset_shard(PAIRS), job.config)
    try:
        for iteration in job.iterations:
            if job.ledger.snapshot(iteration) is None:
                policy = _start(job, iteration, policy)
                if not _train(job, iteration, policy, shares):
                    return
            if first():
                job.coordinator.published.remote(iteration)
    except RunFailed as error:
        ray.get(job.coordinator.fail.remote(error))
        raise
    except Exception as error:
        if not out_of_memory(error):
            raise
        where = f"iteration {iteration}, train worker {ray.train.get_context().get_world_rank()}"
        ray.get(job.coordinator.fail.remote(_no_memory(where, error, job.config)))
        raise


def _no_memory(where: str, error: BaseException, config: Config) -> RunFailed:
    return RunFailed(f"{where}: out of memory: {error}\n{memory_remedy(config.training)}")


def _start(job: Job, iteration: int, before: Any) -> Any:
    """The policy that an iteration starts with. before: of the iteration before, where this process has trained it."""
    from sppo_ray.training.policy import TrainablePolicy  # DeepSpeed, which only the train workers load

    count = job.pairs(iteration)
    steps = iteration_steps(job.config.training, count)
    carried = job.config.training.carry == "master"
    if before is not None and not carried:
        before.close()
    if before is not None and carried:
        policy = before
        policy.begin(steps, job.earlier_k3(iteration))
    else:
        reference = local(job.reference(iteration)).uri
        policy = TrainablePolicy(job.config, reference, steps, get_device(), job.earlier_k3(iteration))
        if carried and iteration > 1:
            checkpoints.load_master(job, policy, iteration - 1)
    if first():
        job.coordinator.training.remote(iteration, job.config.training.epochs * count)
    return policy


def _train(job: Job, iteration: int, policy: Any, shares: Iterator[list[Pair]]) -> bool:
    """One step per batch, then the publication, which all workers take part in. False if the run is to stop before that."""
    shares = _of_iteration(shares, job.config.training, policy)
    log = checkpoints.restore(policy, iteration)
    due = checkpoints.Due(job.config.training, get_device())
    for pairs in itertools.islice(shares, policy.steps_done, None):
        if not ray.get(job.coordinator.may_step.remote(policy.steps_done + 1)):
            checkpoints.save(job, policy, iteration, log)
            return False
        numbers = policy.step(pairs)
        log.append(numbers.row())
        if first():
            job.coordinator.trained.remote(numbers, sum(row["pairs"] for row in log))
        if due.after(policy.steps_done):
            checkpoints.save(job, policy, iteration, log)
            due.written()
    if all(row.get("skipped") for row in log):
        raise RunFailed(
            f"iteration {iteration}: none of its {len(log)} optimizer steps could be taken, for the loss or its gradient was "
            "not a finite number; a new run needs a lower training.eta or training.learning_rate, or policy.dtype=float32"
        )
    if first():
        files.write_json_lines(job.ledger.training_log(iteration), log)
    if job.config.training.carry == "master" and iteration < job.config.iterations:
        checkpoints.save_master(job, policy, iteration)
    _publish(job, iteration, policy)
    return True


def _of_iteration(shares: Iterator[list[Pair]], training: TrainingSettings, policy: Any) -> Iterator[list[Pair]]:
    """The shares of the iteration that the policy has begun.

    Called before a checkpoint is restored: the policy that the iteration started with recomputes the reference.
    A restarted trainer reads the pairs from before its checkpoint again and skips them.
    """
    if training.reference != "recompute":
        return itertools.islice(shares, policy.steps)
    recomputed = [policy.recompute(pairs) for pairs in itertools.islice(shares, policy.steps // training.epochs)]
    return itertools.chain.from_iterable(itertools.repeat(recomputed, training.epochs))


def _publish(job: Job, iteration: int, policy: Any) -> None:
    from sppo_ray.run_folder.publishing import publish, torch_dtype

    if first():
        job.coordinator.publishing.remote()
        last = iteration == job.config.iterations
        dtype = (last and job.config.policy.publish_dtype) or job.config.policy.dtype
        seconds: Counter[str] = Counter()
        publish(
            job.ledger.iteration(iteration) / "policy",
            iteration,
            policy.shapes(),
            torch_dtype(dtype),
            policy.gather(),
            base=local(job.reference(iteration)).uri,
            card=model_card(job.ledger.config(), iteration, job.ledger.reports()),
            trust_remote_code=job.config.policy.trust_remote_code,
            seconds=seconds,
            adapter=policy.adapter,
            held=torch_dtype(job.config.policy.dtype),
        )
        job.coordinator.advanced.remote(dict(seconds))
    else:
        policy.assist()
    torch.distributed.barrier()  # the other workers load what the first has written, as their next reference

"""The training of one iteration: Ray Train workers under DeepSpeed ZeRO-3 fed from the pipeline's dataset.

In: the pairs of the iteration, as they are judged. Out: the published snapshot.
"""

import itertools
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.data import Dataset, ExecutionOptions
from ray.exceptions import RayActorError
from ray.train import (
    Checkpoint,
    CheckpointConfig,
    CheckpointUploadMode,
    DataConfig,
    FailureConfig,
    RunConfig,
    WorkerGroupError,
)
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.util.placement_group import PlacementGroup, PlacementGroupID, remove_placement_group
from ray.util.state import list_placement_groups

from actors.pipeline import share_size, steps_an_epoch
from actors.placement import trainer_scaling
from sppo_ray import files
from sppo_ray.cards import model_card
from sppo_ray.config import Config
from sppo_ray.errors import RunFailed, RunStopped
from sppo_ray.ledger import Ledger
from sppo_ray.records import Pair, Snapshot, from_table
from sppo_ray.snapshots import local
from sppo_ray.storage import remote, reporting

CHECKPOINTS = "checkpoints"  # a folder of the run, while an iteration is trained


@dataclass(frozen=True)
class Job:
    """What a train worker needs to know: it trains `reference` on `pairs` pairs and publishes the result."""

    config: Config
    ledger: Ledger
    iteration: int
    reference: Snapshot
    pairs: int
    coordinator: Any

    @property
    def steps(self) -> int:
        """Optimizer steps of the iteration."""
        return self.config.training.epochs * steps_an_epoch(self.config, self.pairs)


def fit(job: Job, pairs: Dataset) -> Snapshot:
    """Train one iteration and return the snapshot it published. Raises `RunFailed` with what stopped it."""
    for failures in itertools.count(1):
        _release_devices()
        try:
            _trainer(job, pairs).fit()
            break
        except WorkerGroupError as error:
            rank, cause = next(iter(error.worker_failures.items()))
            raise RunFailed(
                f"iteration {job.iteration}, train worker {rank}: {type(cause).__name__}: {cause}"
            ) from error
        except RayActorError:  # Ray Train's controller died, which nobody but us starts again
            if failures > job.config.training.max_failures:
                raise
    snapshot = job.ledger.snapshot(job.iteration)
    if snapshot is None:  # the workers end without one only where the coordinator told them to
        raise RunStopped
    files.remove(job.ledger.root / CHECKPOINTS)
    return snapshot


def _release_devices() -> None:
    """Remove the placement groups of trainers that died: of one that was starting, Ray keeps them until the job ends."""
    job = ray.get_runtime_context().get_job_id()
    for group in list_placement_groups(filters=[("creator_job_id", "=", job), ("state", "!=", "REMOVED")]):
        remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(group.placement_group_id))))


def _trainer(job: Job, pairs: Dataset) -> TorchTrainer:
    training = job.config.training
    on_gpu = training.gpus > 0
    return TorchTrainer(
        work,
        train_loop_config={"job": job},
        torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo"),
        scaling_config=trainer_scaling(job.config),
        run_config=RunConfig(
            name=f"iter-{job.iteration}",
            **_storage(job.ledger),
            checkpoint_config=CheckpointConfig(num_to_keep=job.config.storage.keep_checkpoints),
            failure_config=FailureConfig(max_failures=training.max_failures),
        ),
        datasets={"train": pairs},
        dataset_config=DataConfig(execution_options=ExecutionOptions(preserve_order=True), enable_shard_locality=False),
    )


def _storage(ledger: Ledger) -> dict[str, Any]:
    folder = ledger.root / CHECKPOINTS
    if url := remote(folder):
        return {"storage_path": url.path, "storage_filesystem": PyFileSystem(FSSpecHandler(url.fs))}
    return {"storage_path": str(folder)}


def work(settings: dict[str, Any]) -> None:
    """One train worker. What a restart cannot mend (a `RunFailed`) ends the run; the rest Ray restarts."""
    job: Job = settings["job"]
    try:
        _train(job)
    except RunFailed as error:
        ray.get(job.coordinator.fail.remote(error))
        raise
    except RuntimeError as error:
        if not _out_of_memory(error):
            raise
        training = job.config.training
        message = (
            f"iteration {job.iteration}, train worker {ray.train.get_context().get_world_rank()}: out of memory: {error}\n"
            f"Lower training.micro_batch_tokens ({training.micro_batch_tokens}) or policy.max_length, raise training.workers "
            f"({training.workers}), or set training.gradient_checkpointing=true "
            f"({str(training.gradient_checkpointing).lower()} now); the same command then continues the run"
        )
        ray.get(job.coordinator.fail.remote(RunFailed(message)))
        raise


def _out_of_memory(error: RuntimeError) -> bool:
    return type(error).__name__ == "OutOfMemoryError" or "allocate memory" in str(error)


def _train(job: Job) -> None:
    """A step a batch, then the publication, which all workers take part in."""
    from sppo_ray.policy import TrainablePolicy  # DeepSpeed, which only the train workers load

    reference = local(job.reference).uri
    policy = TrainablePolicy(job.config, reference, job.steps, get_device())
    first = ray.train.get_context().get_world_rank() == 0
    if first:
        job.coordinator.training.remote()
    recompute = job.config.training.reference == "recompute"
    recomputed = [policy.recompute(pairs) for pairs in _batches(job.config)] if recompute else []
    log = _restore(policy)
    batches = itertools.chain.from_iterable(
        recomputed or _batches(job.config) for _ in range(job.config.training.epochs)
    )
    # A restarted trainer reads what was trained before its checkpoint once more, and leaves it out.
    for pairs in itertools.islice(batches, policy.steps_done, None):
        if not ray.get(job.coordinator.may_step.remote(policy.steps_done + 1)):
            _checkpoint(job.ledger, policy, log)
            return
        numbers = policy.step(pairs)
        log.append(numbers.row())
        if first:
            job.coordinator.trained.remote(numbers, sum(row["pairs"] for row in log))
        if policy.steps_done % job.config.training.checkpoint_steps == 0:
            _checkpoint(job.ledger, policy, log)
    if first:
        files.write_json_lines(job.ledger.training_log(job.iteration), log)
    _publish(job, policy, reference, first)
    policy.close()


def _restore(policy: Any) -> list[dict[str, Any]]:
    """Go on from the last committed checkpoint of this iteration, if there is one; gives its log."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return []
    with checkpoint.as_directory() as folder:
        log: list[dict[str, Any]] = policy.restore(Path(folder))
    return log


def _checkpoint(ledger: Ledger, policy: Any, log: list[dict[str, Any]]) -> None:
    """Write a checkpoint, every worker its part, and have Ray Train take note of it.

    Straight into the run's folder: a checkpoint of a large model is not to pass through a disk of the node first.
    """
    folder = Path(ray.train.get_context().get_storage().experiment_fs_path) / f"step-{policy.steps_done}"
    numbers = {"step": policy.steps_done}
    with reporting(ledger.root / CHECKPOINTS):
        if not remote(ledger.root):
            policy.save(folder, log)
            ray.train.report(numbers, Checkpoint(str(folder)), checkpoint_upload_mode=CheckpointUploadMode.NO_UPLOAD)
            return
        with tempfile.TemporaryDirectory() as scratch:
            policy.save(Path(scratch), log)
            ray.train.report(numbers, Checkpoint(scratch))


def _batches(config: Config) -> Iterator[list[Pair]]:
    """This worker's share of each batch of an epoch, as soon as its prompts are judged."""
    shard = ray.train.get_dataset_shard("train")
    for batch in shard.iter_batches(batch_size=share_size(config), batch_format="pyarrow", prefetch_batches=1):
        yield from_table(batch, Pair)


def _publish(job: Job, policy: Any, reference: str, first: bool) -> None:
    from sppo_ray.publishing import publish, torch_dtype

    job.coordinator.publishing.remote()
    if not first:
        policy.assist()
        return
    seconds: Counter[str] = Counter()
    publish(
        job.ledger.iteration(job.iteration) / "policy",
        job.iteration,
        policy.shapes(),
        torch_dtype(job.config.policy.dtype),
        policy.gather(),
        base=reference,
        card=model_card(job.ledger.config(), job.iteration, job.ledger.reports()),
        trust_remote_code=job.config.policy.trust_remote_code,
        seconds=seconds,
    )
    job.coordinator.published.remote(dict(seconds))

"""What a train worker keeps of a policy in training: checkpoints within an iteration, float32 weights between two.

In: the policy. Out: the same policy in another process, with the log of the iteration so far.
"""

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray.train
import torch
from ray.train import Checkpoint, CheckpointUploadMode

from sppo_ray.config import TrainingSettings
from sppo_ray.run_folder import files, remote, reporting, scratch

if TYPE_CHECKING:
    from actors.run.trainer import Job

log = logging.getLogger(__name__)


def first() -> bool:
    return bool(ray.train.get_context().get_world_rank() == 0)


class Due:
    """After which steps a checkpoint is written: by the first worker's clock, for all have to write their part of it."""

    def __init__(self, training: TrainingSettings, device: torch.device) -> None:
        self._training, self._device = training, device
        self._last = time.monotonic()

    def after(self, step: int) -> bool:
        """Every worker asks after every step, and is given the same answer."""
        late = time.monotonic() - self._last > 60 * self._training.checkpoint_minutes
        answer = torch.tensor([late], dtype=torch.uint8, device=self._device)
        torch.distributed.broadcast(answer, 0)
        steps = self._training.checkpoint_steps
        return bool(answer.item()) or (steps is not None and step % steps == 0)

    def written(self) -> None:
        self._last = time.monotonic()


def restore(policy: Any, iteration: int) -> list[dict[str, Any]]:
    """Continue from the last committed checkpoint, if it is one of this iteration; returns its log."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None or checkpoint.get_metadata()["iteration"] != iteration:
        return []
    with checkpoint.as_directory() as folder:
        rows: list[dict[str, Any]] = policy.restore(Path(folder))
    return rows


def save(job: "Job", policy: Any, iteration: int, rows: list[dict[str, Any]]) -> None:
    """Write a checkpoint, each worker its part, and report it to Ray Train.

    It goes straight into the run's folder: a large model's checkpoint should not pass through a disk of the node first.
    """
    home = Path(ray.train.get_context().get_storage().experiment_fs_path)
    if first():
        job.coordinator.saving.remote(True)
    with reporting(job.ledger.checkpoints):
        if not remote(job.ledger.root):
            _write(policy, home / f"iter-{iteration}-step-{policy.steps_done}", iteration, rows)
        else:
            with scratch() as folder:
                _write(policy, folder, iteration, rows, CheckpointUploadMode.SYNC)
    if first():
        job.coordinator.saving.remote(False)


def _write(
    policy: Any,
    folder: Path,
    iteration: int,
    rows: list[dict[str, Any]],
    upload: CheckpointUploadMode = CheckpointUploadMode.NO_UPLOAD,
) -> None:
    policy.save(folder, rows)
    checkpoint = Checkpoint(str(folder))
    if first():
        checkpoint.set_metadata({"iteration": iteration})
    ray.train.report({"step": policy.steps_done}, checkpoint, checkpoint_upload_mode=upload)


def save_master(job: "Job", policy: Any, iteration: int) -> None:
    """Keep the float32 weights of an iteration, each worker its part; returns when all are written.

    They are there before the snapshot is. Those of the iteration before stay, in case this one has to be trained again.
    """
    folder = job.ledger.master(iteration)
    if first():
        files.remove(job.ledger.master(iteration - 2))
        files.remove(folder)
    torch.distributed.barrier()
    policy.save_master(folder)
    torch.distributed.barrier()


def load_master(job: "Job", policy: Any, iteration: int) -> None:
    """Have a new policy, which holds the snapshot of an iteration, go on from its float32 weights."""
    folder = job.ledger.master(iteration)
    if any(folder.glob("*.safetensors")):
        policy.load_master(folder)
    elif first():
        log.warning("%s is lost: iteration %d starts from the snapshot, which is rounded", folder, iteration + 1)

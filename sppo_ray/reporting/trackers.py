"""Experiment trackers: the numbers of a run, step by step, to TensorBoard, Weights & Biases, MLflow or Trackio.

In: the names that the configuration asks for, the run folder. Out: one `log(step, numbers)` for all of them, which never
waits and never raises. Each keeps to its own environment variables (WANDB_MODE=offline, MLFLOW_TRACKING_URI, TRACKIO_DIR).
"""

import importlib.util
import logging
import queue
import re
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformdirs import user_state_path

from sppo_ray.config import Config
from sppo_ray.errors import ConfigError
from sppo_ray.run_folder import remote

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

log = logging.getLogger(__name__)

PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow", "trackio": "trackio"}
MOST_WAITING = 1000  # steps that wait for a slow tracker; those that come then are not logged
CLOSE_SECONDS = 10.0  # for all trackers to log what waits, when the run ends
PROJECT = "sppo-ray"


def check_trackers(names: Sequence[str]) -> None:
    """Raise `ConfigError` for a tracker that is not installed."""
    for name in names:
        package = PACKAGES[name]
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"trackers names {name}, which is not installed: pip install {package}, or leave it out")


class Trackers:
    """Those that a configuration asks for, as one. folder: the run's, where they keep files of their own."""

    def __init__(self, config: Config, folder: Path) -> None:
        run, settings = folder.name, config.model_dump(mode="json")
        if remote(folder):  # they write to paths only
            folder = user_state_path("sppo-ray") / "trackers" / run
        self._all = [_Worker(name, partial(_start, name, run, folder, settings)) for name in config.trackers]

    def log(self, step: int, numbers: dict[str, Any]) -> None:
        """Numbers of one step of the run; steps go on over iterations. Non-numeric values are skipped."""
        known = {name: float(value) for name, value in numbers.items() if isinstance(value, int | float)}
        for tracker in self._all:
            tracker.log(step, known)

    def close(self) -> None:
        """Have what waits logged, for a few seconds."""
        deadline = time.monotonic() + CLOSE_SECONDS
        for tracker in self._all:
            tracker.close(deadline)


class _Worker:
    """One tracker in a thread of its own: if it is slow, out of reach or raises, the run loses its numbers and no time."""

    def __init__(self, name: str, start: "Callable[[], GeneralTracker]") -> None:
        self._name, self._start = name, start
        self._waiting: queue.Queue[tuple[int, dict[str, float]] | None] = queue.Queue(MOST_WAITING)
        self.lost = 0  # steps
        self._logging = False  # a step is with the tracker
        self._thread = threading.Thread(target=self._work, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def log(self, step: int, numbers: dict[str, float]) -> None:
        try:
            self._waiting.put_nowait((step, numbers))
        except queue.Full:
            self._lose(f"{MOST_WAITING} steps wait for it")

    def close(self, deadline: float) -> None:
        with suppress(queue.Full):
            self._waiting.put(None, timeout=max(0.0, deadline - time.monotonic()))
        self._thread.join(max(0.0, deadline - time.monotonic()))
        self.lost += sum(item is not None for item in list(self._waiting.queue)) + self._logging
        if self.lost:
            log.warning("tracker %s: %d steps were not logged; training.jsonl has them all", self._name, self.lost)

    def _work(self) -> None:
        tracker: GeneralTracker | None = None
        while (item := self._waiting.get()) is not None:
            step, numbers = item
            self._logging = True
            try:
                tracker = tracker or self._start()
                tracker.log(numbers, step=step)
            except Exception as error:  # a tracker's library may raise anything
                self._lose(f"{type(error).__name__}: {error}")
            self._logging = False
        if tracker is not None:
            try:
                tracker.finish()
            except Exception as error:
                log.warning("tracker %s did not end in order: %s", self._name, error)

    def _lose(self, why: str) -> None:
        if self.lost == 0:
            log.warning(
                "tracker %s does not take the numbers of the run, which goes on without it: %s", self._name, why
            )
        self.lost += 1


def _start(name: str, run: str, folder: Path, settings: dict[str, Any]) -> "GeneralTracker":
    from accelerate import PartialState, tracking
    from accelerate.utils import patch_environment

    # Accelerate's logging asks for its state, which would wait for the other processes of a Slurm or MPI job.
    with patch_environment(local_rank=-1, world_size=1, pmi_size=1, ompi_comm_world_size=1, mv2_comm_world_size=1):
        PartialState(cpu=True)
    tracker: GeneralTracker
    if name == "tensorboard":  # event files in the run folder: `tensorboard --logdir RUN/tensorboard`
        tracker = tracking.TensorBoardTracker("tensorboard", folder)
    elif name == "wandb":
        # The same id when the run is continued: one curve.
        one = re.sub(r"[^\w-]", "-", run)[:120]
        tracker = tracking.WandBTracker(PROJECT, name=run, id=one, resume="allow", dir=str(folder), config=settings)
    elif name == "trackio":
        tracker = tracking.TrackioTracker(PROJECT, name=run, config=_flat(settings), resume="allow", embed=False)
    else:
        tracker = tracking.MLflowTracker(PROJECT, run_name=run)
    tracker.start()
    if name == "mlflow":
        tracker.store_init_configuration(_flat(settings))
    return tracker


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat

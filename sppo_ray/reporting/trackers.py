"""Experiment trackers: the numbers of a run, step by step, to TensorBoard, Weights & Biases, MLflow or Trackio.

In: the names that the configuration asks for, the run folder. Out: one `log(step, numbers)` for all of them.
Each keeps to its own environment variables (WANDB_MODE=offline, MLFLOW_TRACKING_URI, TRACKIO_DIR).
"""

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from platformdirs import user_state_path

from sppo_ray.config import Config
from sppo_ray.errors import ConfigError
from sppo_ray.run_folder import remote

Numbers = dict[str, float]


class Tracker(Protocol):
    def log(self, step: int, numbers: Numbers) -> None:
        """Numbers of one step of the run. Steps go on over iterations."""

    def close(self) -> None: ...


class TensorBoard:
    """Event files in the run folder: `tensorboard --logdir RUN/tensorboard`."""

    def __init__(self, run: str, folder: Path, settings: dict[str, Any]) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"), flush_secs=10)

    def log(self, step: int, numbers: Numbers) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class Wandb:
    def __init__(self, run: str, folder: Path, settings: dict[str, Any]) -> None:
        import wandb

        # The same id when the run is continued: one curve.
        self._run = wandb.init(
            project="sppo-ray", name=run, id=_id(run), resume="allow", dir=str(folder), config=settings
        )

    def log(self, step: int, numbers: Numbers) -> None:
        self._run.log(numbers, step=step)

    def close(self) -> None:
        self._run.finish()


class MLflow:
    def __init__(self, run: str, folder: Path, settings: dict[str, Any]) -> None:
        import mlflow

        self._client = mlflow.MlflowClient()
        known = self._client.get_experiment_by_name("sppo-ray")
        experiment = known.experiment_id if known else self._client.create_experiment("sppo-ray")
        self._id = self._client.create_run(experiment, run_name=run).info.run_id
        for key, value in _flat(settings).items():
            self._client.log_param(self._id, key, str(value)[:500])

    def log(self, step: int, numbers: Numbers) -> None:
        for name, value in numbers.items():
            self._client.log_metric(self._id, name, value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._id)


class Trackio:
    def __init__(self, run: str, folder: Path, settings: dict[str, Any]) -> None:
        import trackio

        self._run = trackio.init(project="sppo-ray", name=run, config=_flat(settings), resume="allow", embed=False)

    def log(self, step: int, numbers: Numbers) -> None:
        self._run.log(numbers, step=step)

    def close(self) -> None:
        self._run.finish()


KINDS: dict[str, tuple[str, Any]] = {
    "tensorboard": ("tensorboardX", TensorBoard),
    "wandb": ("wandb", Wandb),
    "mlflow": ("mlflow", MLflow),
    "trackio": ("trackio", Trackio),
}


def check_trackers(names: Sequence[str]) -> None:
    """Raise `ConfigError` for a tracker that is not installed."""
    for name in names:
        package, _ = KINDS[name]
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"trackers names {name}, which is not installed: pip install {package}, or leave it out")


class Trackers:
    """Those that a configuration asks for, as one. folder: the run's, where they keep files of their own."""

    def __init__(self, config: Config, folder: Path) -> None:
        run, settings = folder.name, config.model_dump(mode="json")
        if remote(folder):  # they write to paths only
            folder = user_state_path("sppo-ray") / "trackers" / run
        self._all: list[Tracker] = [KINDS[name][1](run, folder, settings) for name in config.trackers]

    def log(self, step: int, numbers: dict[str, Any]) -> None:
        """Non-numeric values are skipped."""
        known = {name: float(value) for name, value in numbers.items() if isinstance(value, int | float)}
        for tracker in self._all:
            tracker.log(step, known)

    def close(self) -> None:
        for tracker in self._all:
            tracker.close()


def _id(run: str) -> str:
    return re.sub(r"[^\w-]", "-", run)[:120]


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat

"""`placement: auto`: the plan's best way for the cluster at hand, within what the configuration says.

In: a configuration and the cluster's devices. Out: the configuration with placement, workers, pools and shares of GPUs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sppo_ray.config import Config, changes
from sppo_ray.errors import ClusterError
from sppo_ray.planning.budget import Planner
from sppo_ray.planning.devices import device
from sppo_ray.planning.fitting import changed
from sppo_ray.planning.splits import worker_counts

CPUS = ("training.cpus", "generators.cpus", "rankers.cpus")
GPUS = ("training.gpus", "generators.gpus", "rankers.gpus")
SHARED = {"generators.min", "rankers.min"}  # never more than the best way has


@dataclass(frozen=True)
class Machines:
    """A cluster's devices. gpu_gib: memory of the smallest GPU. host_gib: host memory per GPU."""

    cpus: float
    gpus: int = 0
    gpu_gib: float = 0.0
    host_gib: float = 0.0


def place(config: Config, machines: Machines, prompts: int, new: bool = False) -> Config:
    """The configuration for these machines: its own values stay, and so do the numbers of the run.

    prompts: per iteration.  new: of a run to come, whose values and numbers may all change. Raises `ClusterError` with the nearest way where none fits.
    """
    own = set(_own(config)) - {"placement"}
    if not machines.gpus or (not config.training.gpus and not config.generators.gpus):
        return _on_cpus(config, machines, own)
    counted = changed(config, prompts__source="counted", prompts__split="{iteration}", prompts__limit=prompts)
    plan = Planner(counted, machines.gpus, device(machines.gpu_gib), machines.host_gib).plan()
    for way in plan.ways:
        found = changes(counted, way.config)
        if way.fits and (new or all(one.free and (one.key not in own or one.key in SHARED) for one in found)):
            return way.config.model_copy(update={"prompts": config.prompts})
    best = f"set {' '.join(plan.ways[0].overrides)}" if plan.fits else "; or ".join(plan.nearest)
    raise ClusterError(
        f"placement=auto: as it is, the run does not fit on {machines.gpus} GPUs of {machines.gpu_gib:.0f} GiB with "
        f"{machines.host_gib:.0f} GiB of host memory each; what does: {best or 'nothing that the plan knows'}"
    )


def _on_cpus(config: Config, machines: Machines, own: set[str]) -> Config:
    """All roles side by side on CPUs, with as many train workers as there is room for; each role has a CPU or a third of all."""
    share = min(1.0, machines.cpus // 0.75 / 4)
    values = {key: share for key in CPUS if key not in own} | {key: 0 for key in GPUS if key not in own}
    config = _with(config, values | {"placement": "disaggregated"})
    if "training.workers" in own:
        return config
    room = machines.cpus - sum(pool.min * pool.cpus for pool in (config.generators, config.rankers))
    fitting = [n for n in worker_counts(config) if n * config.training.cpus <= room]
    return _with(config, {"training.workers": max(fitting, default=1)})


def _with(config: Config, values: dict[str, Any]) -> Config:
    return changed(config, **{key.replace(".", "__"): value for key, value in values.items()})


def _own(section: object, prefix: str = "") -> Iterator[str]:
    """The keys that the recipe or the command line gives a value."""
    for name in getattr(section, "model_fields_set", ()):
        value = getattr(section, name)
        if hasattr(value, "model_fields_set"):
            yield from _own(value, f"{prefix}{name}.")
        else:
            yield prefix + name

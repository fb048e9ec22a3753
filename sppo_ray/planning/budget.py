"""The plan of a run on N devices of one type.

In: the configuration, devices, optionally measured rates and a price. Out: a `Budget`.
"""

from dataclasses import asdict, dataclass
from typing import Any

from sppo_ray.config import Config
from sppo_ray.errors import ConfigError
from sppo_ray.models import Shape, model_shape
from sppo_ray.planning import splits
from sppo_ray.planning.advice import advice
from sppo_ray.planning.devices import Device
from sppo_ray.planning.memory import GIB, Memory, role_memory
from sppo_ray.planning.rates import Rates, table_rates
from sppo_ray.planning.splits import Seconds, Split
from sppo_ray.planning.work import Work, network_bytes, storage_bytes, work


@dataclass(frozen=True)
class Budget:
    """What a run needs. cost: US dollars, if a price was given. advice: per role, overrides that would make it fit."""

    config: Config
    device: Device
    split: Split
    memory: dict[str, Memory]
    advice: dict[str, list[str]]
    work: Work
    rates: Rates
    seconds: Seconds
    run_seconds: float
    alternatives: dict[str, tuple[Split, Seconds]]
    storage: dict[str, float]
    network: dict[str, float]
    cost: float | None

    @property
    def fits(self) -> bool:
        return all(memory.fits for memory in self.memory.values())

    def tree(self) -> dict[str, Any]:
        """The plan as JSON. GiB are 2^30 bytes, GB 10^9."""
        counts = {"generators": self.split.generators, "rankers": self.split.rankers, "trainers": self.split.trainers}
        return {
            "recipe": self.config.recipe,
            "fits": self.fits,
            "gpu": {"name": self.device.name, "memory_gib": self.device.memory_gib, "count": self.split.devices},
            "placement": self.split.placement,
            "settings": self.split.settings(self.config),
            **{role: self._role(role, count) for role, count in counts.items()},
            "work": asdict(self.work),
            "rates": asdict(self.rates),
            "seconds": asdict(self.seconds) | {"run": self.run_seconds},
            "splits": {name: asdict(s) | {"seconds": asdict(took)} for name, (s, took) in self.alternatives.items()},
            "storage_gb": {name: size / 1e9 for name, size in self.storage.items()},
            "network_gb": {name: size / 1e9 for name, size in self.network.items()},
            "gpu_hours": self.split.devices * self.run_seconds / 3600,
            "cost_usd": self.cost,
        }

    def _role(self, role: str, count: int) -> dict[str, Any]:
        memory, each = self.memory[role], self.config.generation.tensor_parallel if role == "generators" else 1
        return {
            "processes": count,
            "devices": count * each,
            "fits": memory.fits,
            "memory_gib": {name: size / GIB for name, size in memory.parts.items()},
            "total_gib": memory.total / GIB,
            "limit_gib": memory.limit / GIB,
            "advice": self.advice[role],
        }


@dataclass(frozen=True)
class Planner:
    """The plan of one configuration on one type of device. measured: rates that replace the table's."""

    config: Config
    device: Device
    policy: Shape
    work: Work
    measured: Rates | None = None

    def memory(self, split: Split) -> dict[str, Memory]:
        return role_memory(self.config, self.device.memory_gib * GIB, split.trainers, split.colocated)

    def fits(self, split: Split) -> bool:
        return all(memory.fits for memory in self.memory(split).values())

    def rates(self, split: Split) -> Rates:
        return self.measured or table_rates(self.config, self.device, self.work, split.trainers)

    def seconds(self, split: Split) -> Seconds:
        return splits.iteration_seconds(self.config, self.policy, self.work, self.rates(split), split)

    def best(self, some: list[Split]) -> Split:
        """The fastest split that fits; if none does, the fastest of those with the most trainers, which come closest."""
        most = max(split.trainers for split in some)
        nearest = [one for one in some if self.fits(one)] or [one for one in some if one.trainers == most]
        return min(nearest, key=lambda one: self.seconds(one).total)


def budget(
    config: Config, devices: int, device: Device, rates: Rates | None = None, price: float | None = None
) -> Budget:
    """The plan of a run on that many devices. price: US dollars per device-hour.

    Raises `ConfigError` if there are too few devices for any split, or if a model's shape or the prompts are unknown.
    """
    parallel = config.generation.tensor_parallel
    least, needed = 2, "a generator and a ranker"
    if parallel > 1:  # it is never colocated
        least, needed = parallel + 2, f"a generator of {parallel}, a ranker and a trainer"
    if devices < least:
        raise ConfigError(f"--gpus {devices}: {needed} need {least} at least")
    planner = Planner(config, device, model_shape(config.policy.model, "policy.model"), work(config), rates)
    ways = {"colocated": splits.colocated(config, devices), "disaggregated": splits.disaggregated(config, devices)}
    alternatives = {name: planner.best(some) for name, some in ways.items() if some}
    split = planner.best([one for one in alternatives.values() if planner.fits(one)] or list(alternatives.values()))
    memory, seconds, policy = planner.memory(split), planner.seconds(split), planner.policy
    took = splits.run_seconds(config, policy, planner.work, seconds)
    return Budget(
        config=config,
        device=device,
        split=split,
        memory=memory,
        advice={role: [] if memory[role].fits else advice(config, memory[role].limit, split, role) for role in memory},
        work=planner.work,
        rates=planner.rates(split),
        seconds=seconds,
        run_seconds=took,
        alternatives={name: (one, planner.seconds(one)) for name, one in alternatives.items()},
        storage=storage_bytes(config, policy, planner.work),
        network=network_bytes(config, policy, planner.work, split.generators, split.trainers),
        cost=None if price is None else price * devices * took / 3600,
    )

"""The ways to run a configuration on N devices of one type, best first.

In: the configuration, devices, optionally measured rates and a price. Out: `Budget`s; where none fits, what would.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import yaml

from sppo_ray.config import Config, changes
from sppo_ray.errors import ConfigError
from sppo_ray.models import model_shape
from sppo_ray.planning import splits
from sppo_ray.planning.devices import DEVICES, Device
from sppo_ray.planning.fitting import changed, fitted, variants
from sppo_ray.planning.memory import GIB, Memory, role_memory
from sppo_ray.planning.rates import Rates, most_sequences, table_rates
from sppo_ray.planning.splits import Seconds, Split
from sppo_ray.planning.work import Work, network_bytes, storage_bytes, work

ROLES = ("generators", "rankers", "trainers", "host")


@dataclass(frozen=True)
class Budget:
    """One way to run a recipe. config: the recipe with the way's settings. cost: US dollars, if a price was given."""

    recipe: Config
    config: Config
    device: Device
    split: Split
    memory: dict[str, Memory]
    work: Work
    rates: Rates
    seconds: Seconds
    run_seconds: float
    cost: float | None

    @property
    def fits(self) -> bool:
        return all(memory.fits for memory in self.memory.values())

    @property
    def overrides(self) -> list[str]:
        """What the recipe has to be given."""
        return [f"{change.key}={_value(change.new)}" for change in changes(self.recipe, self.config)]

    @property
    def numbers(self) -> list[str]:
        """The numbers of the recipe that this way changes, old and new."""
        found = [change for change in changes(self.recipe, self.config) if not change.free]
        return [f"{change.key}: {_value(change.old)} -> {_value(change.new)}" for change in found]

    @property
    def storage(self) -> dict[str, float]:
        return storage_bytes(self.config, model_shape(self.config.policy.model, "policy.model"), self.work)

    @property
    def network(self) -> dict[str, float]:
        policy, split = model_shape(self.config.policy.model, "policy.model"), self.split
        return network_bytes(self.config, policy, self.work, split.generators, split.trainers)

    @property
    def judge_usd(self) -> float:
        """US dollars of the run that the judges' endpoints charge."""
        return self.config.iterations * self.work.judge_usd

    @property
    def gpu_hours(self) -> float:
        return self.split.devices * self.run_seconds / 3600

    def row(self) -> dict[str, Any]:
        """The way as JSON, in short."""
        return {
            "overrides": self.overrides,
            "numbers_changed": self.numbers,
            "fits": self.fits,
            "hours": self.run_seconds / 3600,
            "cost_usd": self.cost,
            "judge_usd": self.judge_usd,
            "memory_gib": {
                role: {part: size / GIB for part, size in memory.parts.items()} for role, memory in self.memory.items()
            },
        }

    def tree(self) -> dict[str, Any]:
        """The way as JSON. GiB are 2^30 bytes, GB 10^9."""
        split = self.split
        counts = {"generators": split.generators, "rankers": split.rankers, "trainers": split.trainers}
        return {
            "recipe": self.config.recipe,
            "fits": self.fits,
            "gpu": {"name": self.device.name, "memory_gib": self.device.memory_gib, "count": split.devices},
            "placement": split.placement,
            "settings": self.overrides,
            "numbers_changed": self.numbers,
            **{role: self._role(role, counts.get(role, split.trainers)) for role in ROLES},
            "work": asdict(self.work),
            "rates": asdict(self.rates),
            "seconds": asdict(self.seconds) | {"run": self.run_seconds},
            "storage_gb": {name: size / 1e9 for name, size in self.storage.items()},
            "network_gb": {name: size / 1e9 for name, size in self.network.items()},
            "gpu_hours": self.gpu_hours,
            "cost_usd": self.cost,
            "judge_usd": self.judge_usd,
        }

    def _role(self, role: str, count: int) -> dict[str, Any]:
        memory = self.memory[role]
        return {
            "processes": count,
            "fits": memory.fits,
            "memory_gib": {name: size / GIB for name, size in memory.parts.items()},
            "total_gib": memory.total / GIB,
            "limit_gib": memory.limit / GIB,
        }


@dataclass(frozen=True)
class Plan:
    """ways: that fit, best first; if none does, the recipe as it is. nearest: then, other devices on which a way fits."""

    ways: list[Budget]
    nearest: list[str] = field(default_factory=list)

    @property
    def fits(self) -> bool:
        return self.ways[0].fits

    def tree(self) -> dict[str, Any]:
        return self.ways[0].tree() | {"ways": [way.row() for way in self.ways], "nearest": self.nearest}


@dataclass(frozen=True)
class Planner:
    """devices: their number. host_gib: host memory per device. measured: rates that replace the table's. price: USD per hour."""

    recipe: Config
    devices: int
    device: Device
    host_gib: float
    measured: Rates | None = None
    price: float | None = None

    def plan(self) -> Plan:
        """Every way that fits: first those that keep the recipe's numbers, of these the fastest.

        Raises `ConfigError` if a model's shape or the number of prompts is unknown.
        """
        if self.devices < 1:
            raise ConfigError(f"--gpus {self.devices}: a run needs 1 at least")
        work(self.recipe)
        if found := self._fitting():
            return Plan(found)
        return Plan([min(self._as_written(), key=lambda way: way.run_seconds)], list(self._nearest()))

    def _fitting(self) -> list[Budget]:
        recipe = changed(self.recipe, placement="disaggregated")  # each split says what it needs
        ways = [way for variant in variants(recipe, self.devices) for way in self._ways(variant)]
        best: dict[Any, Budget] = {}
        for way in sorted(ways, key=lambda way: (len(way.numbers), way.run_seconds)):
            training = way.config.training
            # Variants come with the least offload first: more of it that is no faster is of no use.
            best.setdefault((training.adapter.rank, way.config.generation.tensor_parallel, way.split.placement), way)
        return list(best.values())

    def _ways(self, variant: Config) -> Iterator[Budget]:
        """The best way of each placement."""
        for possible in (splits.colocated(variant, self.devices), splits.disaggregated(variant, self.devices)):
            found = []
            for workers in sorted({split.trainers for split in possible}):
                some = [split for split in possible if split.trainers == workers]
                config = self._fitted(changed(variant, training__workers=workers), some[0])
                if config is not None:
                    found.append(self._fastest(config, some))
            if found:
                yield min(found, key=lambda way: (len(way.numbers), way.run_seconds))

    def _fitted(self, config: Config | None, split: Split) -> Config | None:
        """The configuration with what it takes for every role to fit."""
        for role in ROLES:
            config = config and fitted(config, role, lambda one: self._memory(one, split)[role].fits)  # noqa: B023
        return config

    def _memory(self, config: Config, split: Split) -> dict[str, Memory]:
        host = self.host_gib * GIB * self.devices / split.trainers
        return role_memory(
            config, self.device.memory_gib * GIB, split.trainers, split.colocated, host=host, single=split.single
        )

    def _fastest(self, config: Config, some: list[Split]) -> Budget:
        """The fastest of splits with the same number of trainers."""
        policy, load = model_shape(config.policy.model, "policy.model"), work(config)
        rates = self.measured or table_rates(config, self.device, load, some[0].trainers)
        seconds = {split: splits.iteration_seconds(config, policy, load, rates, split) for split in some}
        best = min(some, key=lambda split: seconds[split].total)
        took = splits.run_seconds(config, policy, load, seconds[best])
        cost = None if self.price is None else self.price * self.devices * took / 3600
        memory = self._memory(config, best)
        sequences = most_sequences(config, policy, self.device.memory_gib * GIB, load.prompt)
        config = _with_settings(config, best, sequences)
        return Budget(self.recipe, config, self.device, best, memory, load, rates, seconds[best], took, cost)

    def _as_written(self) -> Iterator[Budget]:
        """The recipe with the most trainers that there is room for, which come closest to fitting."""
        parallel = self.recipe.generation.tensor_parallel
        config = self.recipe if parallel <= self.devices else changed(self.recipe, generation__tensor_parallel=1)
        for possible in (splits.colocated(config, self.devices), splits.disaggregated(config, self.devices)):
            most = max((split.trainers for split in possible), default=0)
            some = [split for split in possible if split.trainers == most]
            if some:
                yield self._fastest(changed(config, training__workers=most), some)

    def _nearest(self) -> Iterator[str]:
        """More devices, larger ones or more host memory: the least of each on which some way fits."""
        sizes = sorted({one.memory_gib for one in DEVICES if one.memory_gib > self.device.memory_gib})
        tries = [
            [
                (f"--gpus {self.devices << n}", self.devices << n, self.device.memory_gib, self.host_gib)
                for n in range(1, 7)
            ],
            [(f"--gpu-memory {size:g}", self.devices, size, self.host_gib) for size in sizes],
            [
                (f"--host-memory {self.host_gib * 2**n:g}", self.devices, self.device.memory_gib, self.host_gib * 2**n)
                for n in range(1, 4)
            ],
        ]
        for some in tries:
            for words, count, memory, host in some:
                device = Device(**asdict(self.device) | {"memory_gib": memory})
                if found := Planner(self.recipe, count, device, host)._fitting():
                    yield f"{words}: {' '.join(found[0].overrides)}"
                    break


def _with_settings(config: Config, split: Split, sequences: int) -> Config:
    pairs = (setting.split("=") for setting in split.settings(config))
    settings = {key.replace(".", "__"): yaml.safe_load(value) for key, value in pairs}
    settings["generation__max_sequences"] = config.generation.max_sequences or sequences
    for name, most in (("generators", split.generators), ("rankers", split.rankers)):
        settings[f"{name}__min"] = min(getattr(config, name).min, most)
    return changed(config, **settings)


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)

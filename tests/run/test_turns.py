"""Generators and rankers on one GPU: one of the two sleeps whenever the other is awake."""

import asyncio
from typing import Any

from actors.engines import PoolState
from actors.run.coordinator import Coordinator
from actors.run.desired import DesiredState
from sppo_ray.config import load_config
from sppo_ray.records import Snapshot
from sppo_ray.reporting import RunStatus
from tests.engines.stubs import Method

ONE_GPU = [
    "placement=colocated",
    "generators.gpus=0.55",
    "rankers.gpus=0.4",
    "training.gpus=0.05",
    "training.workers=1",
]


class StubPool:
    """Notes in the log what it is told to be, and when that is waited for."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.desire, self.settled = Method(self._desire), Method(self._settled)
        self._name, self._log, self._asleep = name, log, False

    async def _desire(self, state: PoolState) -> None:
        self._asleep = state.asleep

    async def _settled(self) -> None:
        self._log.append(f"{self._name} {'asleep' if self._asleep else 'awake'}")


def log_of(*overrides: str) -> list[str]:
    log: list[str] = []
    coordinator: Any = Coordinator.__ray_metadata__.modified_class.__new__(Coordinator.__ray_metadata__.modified_class)
    coordinator.__dict__ |= {"_config": load_config(overrides=list(overrides)), "_asleep": set(), "_stopping": False}
    coordinator._pools = {name: StubPool(name, log) for name in ("generators", "rankers")}
    coordinator._status, coordinator._desired = RunStatus(iterations=1), DesiredState()

    async def run() -> None:
        await coordinator._open(Snapshot(0, "base"))
        for pool in ("generators", "rankers", "rankers", "generators"):
            await coordinator.turn(pool)

    asyncio.run(run())
    return log


def test_on_one_gpu_a_pool_wakes_when_the_other_is_asleep() -> None:
    asleep = ["generators asleep", "rankers asleep"]
    opened = ["generators awake", "rankers asleep"]
    assert log_of(*ONE_GPU) == [*opened, *asleep, "generators asleep", "rankers awake", *asleep, *opened]


def test_elsewhere_both_stay_awake() -> None:
    apart = [*ONE_GPU[:1], "generators.gpus=0.95", "rankers.gpus=0.95"]
    for overrides in ([], ["placement=colocated"], apart):
        assert log_of(*overrides) == ["generators awake", "rankers awake"]

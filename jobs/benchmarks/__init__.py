"""The parts of `jobs/bench.py`: one module per part, each with `run() -> list[Ratio]`, measured side by side in one process."""

from dataclasses import dataclass, field
from typing import Any

# For the environment of a process whose resident memory is to be that of its live tensors.
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}


@dataclass(frozen=True)
class Ratio:
    """One measured ratio against its goal. detail: what it was computed from, and the reason where it falls short."""

    name: str
    ratio: float
    goal: float
    ok: bool
    detail: dict[str, Any] = field(default_factory=dict)


def at_least(name: str, ratio: float, goal: float, reason: str = "", **detail: Any) -> Ratio:
    """reason: why it falls short, where it does."""
    return _ratio(name, ratio, goal, ratio >= goal, reason, detail)


def at_most(name: str, ratio: float, goal: float, reason: str = "", **detail: Any) -> Ratio:
    return _ratio(name, ratio, goal, ratio <= goal, reason, detail)


def close_to_one(name: str, ratio: float, tolerance: float, reason: str = "", **detail: Any) -> Ratio:
    return _ratio(name, ratio, 1.0, abs(ratio - 1) <= tolerance, reason, detail)


def _ratio(name: str, ratio: float, goal: float, ok: bool, reason: str, detail: dict[str, Any]) -> Ratio:
    return Ratio(name, ratio, goal, ok, detail if ok or not reason else detail | {"reason": reason})


def start_ray(cpus: int = 4) -> None:
    """A Ray of this part's own. cpus: what it has to share out, whatever the machine has."""
    import logging

    import ray

    ray.init(address="local", num_cpus=cpus, log_to_driver=False, logging_level=logging.WARNING)

"""The parts of `jobs/bench.py`: one module per part, each with `run() -> list[Ratio]`, measured side by side in one process."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sppo_ray.planning.devices import slow_in_bf16

Rounds = float | Sequence[float]

# For the environment of a process whose resident memory is to be that of its live tensors.
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}


@dataclass(frozen=True)
class Ratio:
    """One measured ratio against its goal; of several rounds their median.

    detail: what it was computed from, and the reason where it falls short.
    """

    name: str
    ratio: float
    goal: float
    ok: bool
    detail: dict[str, Any] = field(default_factory=dict)


def at_least(name: str, rounds: Rounds, goal: float, reason: str = "", **detail: Any) -> Ratio:
    """rounds: the ratio of each, of which the median is shown and the lower quartile decides; or one ratio of everything.

    reason: why it falls short, where it does.
    """
    return _ratio(name, rounds, goal, quartiles(rounds)[0] >= goal, reason, detail)


def at_most(name: str, rounds: Rounds, goal: float, reason: str = "", **detail: Any) -> Ratio:
    """As `at_least`, but the upper quartile decides."""
    return _ratio(name, rounds, goal, quartiles(rounds)[2] <= goal, reason, detail)


def close_to_one(name: str, ratio: float, tolerance: float, reason: str = "", **detail: Any) -> Ratio:
    return _ratio(name, ratio, 1.0, abs(ratio - 1) <= tolerance, reason, detail)


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Of each round."""
    return [one / other for one, other in zip(above, below, strict=True)]


def quartiles(rounds: Rounds) -> list[float]:
    found: list[float] = np.quantile(rounds, (0.25, 0.5, 0.75)).tolist()
    return found


def _ratio(name: str, rounds: Rounds, goal: float, ok: bool, reason: str, detail: dict[str, Any]) -> Ratio:
    low, middle, high = quartiles(rounds)
    if isinstance(rounds, Sequence):
        detail = {"rounds": len(rounds), "quartiles": [round(low, 3), round(high, 3)], **detail}
        if low < goal < high:
            detail["noise"] = "larger than the margin: the quartiles lie on both sides of the goal"
    return Ratio(name, middle, goal, ok, detail if ok or not reason else detail | {"reason": reason})


def start_ray(cpus: int = 4) -> None:
    """A Ray of this part's own. cpus: what it has to share out, whatever the machine has."""
    import logging

    import ray

    ray.init(address="local", num_cpus=cpus, log_to_driver=False, logging_level=logging.WARNING)


def real_dtype() -> str:
    """The precision in which the real model is measured: one that this CPU is fast in."""
    return "float32" if slow_in_bf16() else "bfloat16"

"""What a run says of itself while it runs: its phase, how far the stages are, how the pools do.

In: counts, as stages finish work. Out: records for the log, the service and the metrics; seconds for the report.
"""

import time
from dataclasses import dataclass, field
from typing import Any, Literal

from tqdm import tqdm


@dataclass
class Stage:
    """Counts of one stage; times are seconds since the epoch, None before the first count."""

    name: str
    unit: str
    total: int
    done: int = 0
    first: int = 0  # the first count: what came before it tells nothing of the rate
    started: float | None = None
    last: float | None = None

    def add(self, count: int) -> None:
        self.reach(min(self.total, self.done + count))

    def reach(self, done: int) -> None:
        if self.started is None:
            self.started, self.first = time.time(), done
        self.done, self.last = done, time.time()

    @property
    def seconds(self) -> float:
        """From the first count to the last."""
        return (self.last or 0.0) - (self.started or 0.0) if self.last else 0.0

    def line(self) -> str:
        elapsed = time.time() - self.started if self.started and self.done < self.total else self.seconds
        meter = tqdm.format_meter(
            self.done,
            self.total,
            elapsed,
            ncols=90,
            prefix=f"{self.name:<9}",
            unit=f" {self.unit}",
            ascii=" #",
            initial=self.first,
        )
        return str(meter)


MemberState = Literal["starting", "up", "asleep", "draining", "failed"]


@dataclass(frozen=True)
class MemberStatus:
    """One engine actor of a pool. load: calls in flight.

    failure: why its last start failed.  retry_at: when it starts again, in seconds since the epoch; never, if it is `failed`.
    tokens: sampled since its engine started.  tokens_per_second: over the last seconds.  sequences: that it samples now.
    """

    name: str
    state: MemberState
    pid: int | None
    load: int
    restarts: int
    snapshot: str | None
    failure: str | None = None
    retry_at: float | None = None
    tokens: int | None = None
    tokens_per_second: float | None = None
    sequences: int | None = None


@dataclass(frozen=True)
class Outage:
    """A member that died or was replaced. calls: the work in flight on it, done again elsewhere.  seconds: until it served again."""

    member: str
    at: float  # seconds since the epoch
    why: str
    calls: int
    seconds: float | None = None


@dataclass(frozen=True)
class PoolStatus:
    """target: members that the pool is to have, between min and max.  waiting: calls that no member has taken yet."""

    name: str
    target: int
    min: int
    max: int
    waiting: int
    members: list[MemberStatus]
    outages: list[Outage]


@dataclass
class RunStatus:
    """What the coordinator says of the run. phase is a word for people; warnings are those of all iterations so far.

    step: the numbers of the last optimizer step.  pools: `generators` and `rankers`.  set_aside: prompts of this
    iteration that were set aside.  trainer_restarts: of this iteration.
    """

    iteration: int = 0
    iterations: int = 0
    phase: str = "starting"
    paused: bool = False
    stages: dict[str, Stage] = field(default_factory=dict)
    step: dict[str, Any] | None = None
    warnings: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.time)
    pools: dict[str, PoolStatus] = field(default_factory=dict)
    set_aside: int = 0
    trainer_restarts: int = 0

    @property
    def loss(self) -> float | None:
        return self.step["loss"] if self.step else None


def new_stages(prompts: int, epochs: int = 1) -> dict[str, Stage]:
    """The three stages of an iteration with that many prompts, each of which gives one pair an epoch."""
    return {
        "generate": Stage("sampling", "prompts", prompts),
        "judge": Stage("judging", "prompts", prompts),
        "train": Stage("training", "pairs", prompts * epochs),
    }

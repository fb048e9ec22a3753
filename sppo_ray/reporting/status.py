"""What a run says of itself while it runs: its phase, how far the stages are, how the pools do.

In: counts, as stages finish work. Out: records for the log, the service and the metrics; seconds for the report.
"""

import time
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass
class Stage:
    """Counts of one stage.

    first: of `done`, what was there before the stage began.  under_way: rows' worth of work in rows that are not done.
    began: when the stage could begin; later by the time that the run was paused since.  last: of the last count.
    paused: since when the run is paused. All three in seconds since the epoch, or None.
    """

    name: str
    unit: str
    total: int
    done: int = 0
    first: int = 0
    under_way: float = 0.0
    began: float | None = None
    last: float | None = None
    paused: float | None = None

    def begin(self) -> None:
        """The stage has what it needs: its seconds count from the first call."""
        self.began = time.time() if self.began is None else self.began

    def pause(self, paused: bool) -> None:
        """A pause is no part of the stage's seconds."""
        now = time.time()
        if paused:
            self.paused = self.paused or now
        elif self.paused is not None:
            if self.began is not None and self.done < self.total:
                self.began += now - max(self.paused, self.began)
            self.paused = None

    def add(self, count: int, kept: bool = False) -> None:
        """kept: these rows were in the run folder already."""
        self.first += count if kept else 0
        self.reach(min(self.total, self.done + count))

    def reach(self, done: int, more: int = 0) -> None:
        """more: how many of them the latest step did; what came before the first count is not of this process."""
        if self.last is None and more:
            self.first = done - more
        self.done, self.last = done, time.time()

    @property
    def seconds(self) -> float:
        """From when the stage could begin to its last count."""
        return 0.0 if self.last is None or self.began is None else self.last - self.began

    @property
    def rate(self) -> float | None:
        """Rows per second since the stage began."""
        if self.began is None:
            return None
        elapsed = self.seconds if self.done >= self.total else (self.paused or time.time()) - self.began
        worked = self.done - self.first + self.under_way
        return worked / elapsed if elapsed > 0 and worked > 0 else None


def seconds_left(stages: dict[str, Stage]) -> dict[str, float | None]:
    """Of each stage, at the rate that it has had; it cannot end before the one whose rows it takes. None: not known yet."""
    left: dict[str, float | None] = {}
    before = 0.0
    for key, stage in stages.items():
        own = (stage.total - stage.done - stage.under_way) / stage.rate if stage.rate else None
        left[key] = None if own is None else max(0.0, own, before)
        before = left[key] or before
    return left


class TokenCount:
    """How many prompts the tokens of unfinished responses are worth, while an iteration is sampled.

    In: what members say they have sampled, and the tokens of finished prompts. Out: `under_way` of the stage.
    """

    def __init__(self, pool: "PoolStatus | None") -> None:
        self._seen = {member.name: member.tokens or 0 for member in pool.members} if pool else {}
        self._sampled = self._finished = self._prompts = 0

    def finish(self, prompts: int, tokens: int) -> None:
        self._prompts, self._finished = self._prompts + prompts, self._finished + tokens

    def under_way(self, pool: "PoolStatus") -> float:
        for member in pool.members:
            if member.tokens is not None:
                before = self._seen.get(member.name, 0)
                # An engine that restarted counts from 0.
                self._sampled += member.tokens - before if member.tokens >= before else member.tokens
                self._seen[member.name] = member.tokens
        return max(0.0, (self._sampled - self._finished) * self._prompts / self._finished) if self._finished else 0.0


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

    @property
    def tokens_per_second(self) -> float | None:
        """Of all members; None if none of them counts tokens."""
        return self._sum("tokens_per_second")

    @property
    def sequences(self) -> int | None:
        return self._sum("sequences")

    def _sum(self, name: str) -> Any:
        known = [value for member in self.members if (value := getattr(member, name)) is not None]
        return sum(known) if known else None


@dataclass
class RunStatus:
    """What the coordinator says of the run. phase is a word for people; warnings are those of all iterations so far.

    pause_reason: where the run paused by itself.  step: the numbers of the last optimizer step.  pools: `generators` and `rankers`.  set_aside: prompts of this
    iteration that were set aside.  trainer_restarts: of this iteration.
    """

    iteration: int = 0
    iterations: int = 0
    phase: str = "starting"
    paused: bool = False
    pause_reason: str | None = None
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


def new_stages(prompts: int, epochs: int = 1, anchors: int = 0) -> dict[str, Stage]:
    """The stages of an iteration with that many prompts, each of which gives one pair an epoch.

    anchors: besides the current policy, each of which scores the pair of every prompt.
    """
    return {
        "generate": Stage("sampling", "prompts", prompts),
        "judge": Stage("judging", "prompts", prompts),
        **({"anchor": Stage("anchoring", "prompts", anchors * prompts)} if anchors else {}),
        "train": Stage("training", "pairs", prompts * epochs),
    }

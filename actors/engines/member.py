"""What the coordinator wants of a pool, and what the pool knows of each of its members.

In: events in the life of a member. Out: its status.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from sppo_ray.records import Progress, Snapshot
from sppo_ray.reporting import MemberState, MemberStatus

RATE_SECONDS = 10.0  # that a member's tokens per second are averaged over


@dataclass(frozen=True)
class PoolState:
    """What the coordinator wants of a pool. It is sent again to a pool that restarted.

    target: members to have; None for as many as the settings allow.  asleep: hold no device memory.
    idle: there is nothing to do for a while, so the pool may shrink to `min` where the settings allow it.
    """

    snapshot: Snapshot | None = None
    target: int | None = None
    paused: bool = False
    asleep: bool = False
    idle: bool = False


@dataclass(eq=False)
class Member:
    """One engine actor. It serves while it is up, awake and holds the pool's snapshot."""

    name: str
    actor: Any
    state: MemberState = "starting"
    pid: int | None = None
    load: int = 0  # calls in flight
    reserved: bool = False  # for the one call that it has
    restarts: int = 0
    snapshot: str | None = None
    awake: bool = False  # holds device memory, or is about to take it
    failure: str | None = None  # why it did not start the last time
    failed_starts: int = 0  # in a row
    retry_at: float | None = None  # seconds since the epoch
    outage: int | None = None  # index of the outage that it is recovering from
    polled: float = 0.0  # when it was last asked how far it is
    progress: Progress | None = None
    samples: deque[tuple[float, int]] = field(default_factory=deque)  # (seconds, tokens so far)
    settling: asyncio.Lock = field(default_factory=asyncio.Lock)

    def take(self, progress: Progress | None, now: float) -> None:
        """Note how far its engine is, for the tokens per second of the last moments."""
        self.progress = progress
        if progress is None or (self.samples and progress.tokens < self.samples[-1][1]):
            self.samples.clear()  # another process counts from 0
        if progress is not None:
            self.samples.append((now, progress.tokens))
            while len(self.samples) > 2 and now - self.samples[0][0] > RATE_SECONDS:
                self.samples.popleft()

    def status(self) -> MemberStatus:
        state: MemberState = "asleep" if self.state == "up" and not self.awake else self.state
        rate = None
        if len(self.samples) > 1:
            (since, before), (now, tokens) = self.samples[0], self.samples[-1]
            rate = (tokens - before) / (now - since)
        return MemberStatus(
            name=self.name,
            state=state,
            pid=self.pid,
            load=self.load,
            restarts=self.restarts,
            snapshot=self.snapshot,
            failure=self.failure,
            retry_at=self.retry_at,
            tokens=self.progress.tokens if self.progress else None,
            tokens_per_second=rate,
            sequences=self.progress.sequences if self.progress else None,
        )

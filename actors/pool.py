"""A pool of engine actors: starts them, routes work to the least loaded, moves work away from the dead.

In: a method name and its arguments. Out: what one member returned. Ray starts, places and restarts the members;
those that do not fit yet stay pending and drive the autoscaler.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayActorError, RayTaskError

from sppo_ray.errors import RunFailed
from sppo_ray.records import Snapshot

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0


@dataclass
class Member:
    """One engine actor. It serves while it is up and holds the pool's snapshot."""

    name: str
    actor: Any
    up: bool = False
    pid: int | None = None
    load: int = 0  # calls in flight
    restarts: int = 0
    snapshot: str | None = None
    failure: str | None = None  # why it can never start


@dataclass(frozen=True)
class MemberStatus:
    name: str
    up: bool
    pid: int | None
    load: int
    restarts: int
    snapshot: str | None


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class Pool:
    """Identical actors that have `ready() -> (pid, snapshot)` and, where they hold a policy, `load(snapshot)`.

    start: makes a member's actor from its name.  blocks: calls in flight on one member.
    """

    def __init__(self, name: str, start: Callable[[str], Any], size: int, blocks: int) -> None:
        self._name = name
        self._start = start
        self._size = size
        self._blocks = blocks
        self._members: list[Member] = []
        self._snapshot: Snapshot | None = None
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        up = sum(member.up for member in self._members)
        return f"{self._name}: {up} of {self._size} up, {sum(m.load for m in self._members)} blocks in flight"

    async def open(self, snapshot: Snapshot | None = None) -> None:
        """Start the members, with the policy that they are to hold; returns as soon as one of them serves."""
        self._snapshot = snapshot
        while len(self._members) < self._size:
            name = f"{self._name}-{len(self._members)}"
            member = Member(name, self._start(name))
            self._members.append(member)
            self._spawn(self._bring_up(member))
        await self._wait_for_member()

    async def call(self, method: str, *args: Any) -> Any:
        """Run a method on the least loaded member, and on another one if that dies. Its own errors reach the caller."""
        while True:
            member = await self._wait_for_member()
            member.load += 1
            try:
                return await getattr(member.actor, method).remote(*args)
            except RayActorError as error:
                log.warning("%s was lost during %s; the work moves on: %s", member.name, method, error)
                self._lost(member)
            finally:
                member.load -= 1
                await self._notify()

    async def load(self, snapshot: Snapshot) -> None:
        """Have every member that is up hold this snapshot; those that come up later load it before they serve."""
        self._snapshot = snapshot
        await asyncio.gather(*(self._bring_up_to_date(member) for member in self._members if member.up))

    async def status(self) -> list[MemberStatus]:
        return [MemberStatus(m.name, m.up, m.pid, m.load, m.restarts, m.snapshot) for m in self._members]

    async def _wait_for_member(self) -> Member:
        async with self._changed:
            await self._changed.wait_for(lambda: self._serving() or all(m.failure for m in self._members))
        serving = self._serving()
        if not serving:
            raise RunFailed(f"no member of the pool {self._name} can start: {self._members[0].failure}")
        return min(serving, key=lambda member: member.load)

    def _serving(self) -> list[Member]:
        wanted = self._snapshot.name if self._snapshot else None
        return [m for m in self._members if m.up and m.load < self._blocks and m.snapshot == wanted]

    def _lost(self, member: Member) -> None:
        if member.up:
            member.up = False
            member.restarts += 1
            self._spawn(self._bring_up(member))

    async def _bring_up(self, member: Member) -> None:
        """Wait until Ray has the member running, give it the pool's snapshot, and open it for work."""
        while not member.up and not member.failure:
            try:
                member.pid, member.snapshot = await member.actor.ready.remote()
                await self._load_into(member)
                member.up = True
            except (ActorDiedError, RayTaskError) as error:
                member.failure = str(error)
            except RayActorError:
                await asyncio.sleep(RETRY_SECONDS)
        await self._notify()

    async def _bring_up_to_date(self, member: Member) -> None:
        try:
            await self._load_into(member)
        except RayActorError:
            self._lost(member)
        await self._notify()

    async def _load_into(self, member: Member) -> None:
        while self._snapshot is not None and member.snapshot != self._snapshot.name:
            wanted = self._snapshot
            await member.actor.load.remote(wanted)
            member.snapshot = wanted.name

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

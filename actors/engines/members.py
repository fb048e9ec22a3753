"""The members of a pool: engine actors that are started, kept alive, brought to the wanted state, and drained.

In: the state that the coordinator wants. Out: members that serve with the wanted snapshot, or sleep.
Ray places the members and restarts their processes; those that do not fit yet stay pending and drive the autoscaler.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayActorError, RayError, RayTaskError

from actors.engines.member import Member, PoolState
from sppo_ray.config import PoolSettings
from sppo_ray.errors import RunFailed, SnapshotMismatch, UserError
from sppo_ray.reporting import MemberState, Outage

log = logging.getLogger(__name__)

TEND_SECONDS = 1.0
MOST_POLLS = 32  # members asked at a time, those of a larger pool in turn: a call takes both sides 3 ms of CPU
POLL_SECONDS = 5.0  # for a member to say how far it is
FIRST_RETRY_SECONDS, MOST_RETRY_SECONDS = 1.0, 60.0
MOST_FIRST_STARTS = 12  # of a member, while no member of its pool has served yet: about seven minutes of waits


class Members:
    """The part of a pool that keeps its members as they are wanted.

    start: makes a member's actor from its name.  room: how many members the cluster can hold now (default: any number).
    """

    def __init__(
        self, name: str, start: Callable[[str], Any], settings: PoolSettings, room: Callable[[], int] | None = None
    ) -> None:
        self._name = name
        self._start = start
        self._settings = settings
        self._room = room
        self._state: PoolState | None = None  # until the coordinator says what it wants
        self._members: list[Member] = []
        self._outages: list[Outage] = []
        self._has_served = False
        self._fatal: RunFailed | None = None
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    # Size

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(TEND_SECONDS)
            await self._adjust()
            up = [member for member in self._members if member.state == "up"]
            up.sort(key=lambda member: member.polled)
            await asyncio.gather(*(self._poll(member) for member in up[:MOST_POLLS]))

    async def _adjust(self) -> None:
        """Start or drain members until there are as many as are wanted and the cluster has room for."""
        room = await asyncio.to_thread(self._room) if self._room else self._settings.max
        wanted, least = self._state or PoolState(), self._settings.min
        target = least if wanted.idle and self._settings.shrink_idle else wanted.target or self._settings.max
        size = max(least, min(target, room))
        staying = [member for member in self._members if member.state != "draining"]
        able = [member for member in staying if member.state != "failed"]
        for _ in range(min(size - len(able), self._settings.max - len(staying))):
            self._add()
        able.sort(key=lambda member: member.state != "starting")  # those go first
        for member in able[: max(0, len(able) - size)]:
            was, member.state = member.state, "draining"
            self._spawn(self._drain(member, was))

    def _add(self) -> None:
        taken = {member.name for member in self._members}
        name = next(name for n in range(len(taken) + 1) if (name := f"{self._name}-{n}") not in taken)
        member = Member(name, self._start(name))
        self._members.append(member)
        self._spawn(self._bring_up(member))

    async def _drain(self, member: Member, was: MemberState) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: member.load == 0)
        self._members.remove(member)
        if was == "up":
            member.actor.__ray_terminate__.remote()
        else:
            ray.kill(member.actor)
        await self._notify()

    # Life of a member

    async def _bring_up(self, member: Member) -> None:
        """Wait until Ray has the member running, start its engine, bring it to the wanted state, open it for work."""
        while member.state == "starting":
            try:
                await member.actor.placed.remote()  # may take for ever: until the cluster has room
                async with self._changed:  # while the pool sleeps the device is the trainer's
                    await self._changed.wait_for(lambda: member.state != "starting" or not self._asleep())
                if member.state != "starting":
                    return
                member.awake = True
                member.pid, member.snapshot = await self._in_time(member.actor.ready.remote())
                await self._settle(member)
            except (RayError, TimeoutError) as error:
                await self._start_failed(member, error)
            else:
                self._up(member)
        await self._notify()

    async def _start_failed(self, member: Member, error: Exception) -> None:
        """Start the member again after a while. Final is what cannot change, and what has failed again and again from the first."""
        member.awake = False
        if member.state != "starting":
            return
        member.failure = self._why(error)
        member.failed_starts += 1
        if self._is_final(error) or (not self._has_served and member.failed_starts == MOST_FIRST_STARTS):
            self._give_up(member, error)
            return
        seconds = min(FIRST_RETRY_SECONDS * 2 ** (member.failed_starts - 1), MOST_RETRY_SECONDS)
        member.retry_at = time.time() + seconds
        log.warning(
            "%s: start %d failed: %s; the next one is in %g s",
            member.name, member.failed_starts, member.failure, seconds,
        )  # fmt: skip
        # A process that died is restarted by Ray. Any other gives its resources back meanwhile, and may be placed elsewhere.
        gone = isinstance(error, ActorDiedError) or not isinstance(error, RayActorError)
        if gone:
            ray.kill(member.actor)
        await self._notify()
        await asyncio.sleep(seconds)
        member.retry_at = None
        if gone and member.state == "starting":
            member.actor = self._start(member.name)

    def _up(self, member: Member) -> None:
        if member.state == "starting":
            member.state = "up"
            self._has_served = True
            member.failure, member.failed_starts = None, 0
        if member.outage is not None:
            outage = self._outages[member.outage]
            self._outages[member.outage] = replace(outage, seconds=round(time.time() - outage.at, 2))
            member.outage = None

    def _lost(self, member: Member, why: str, life: int) -> None:
        """Its process is gone. life: `restarts` when the call began that says so; an error of an earlier process may be late."""
        if member.state != "up" or member.restarts != life:
            return
        log.warning("%s; its work moves on", why)
        member.state, member.awake = "starting", False
        member.take(None, 0.0)
        member.restarts += 1
        member.outage = len(self._outages)
        self._outages.append(Outage(member.name, time.time(), why, member.load))
        self._spawn(self._bring_up(member))

    def _replace(self, member: Member, why: str, life: int) -> None:
        if member.state == "up" and member.restarts == life:
            ray.kill(member.actor, no_restart=False)
            self._lost(member, why, life)

    def _give_up(self, member: Member, error: Exception) -> None:
        """The member never serves again. The pool fails with it if it has never served, or can no longer have `min` members."""
        member.state, member.failure, member.awake = "failed", self._why(error), False
        log.warning("%s cannot start: %s", member.name, member.failure)
        ray.kill(member.actor)  # what it holds is free for others
        failed = sum(other.state == "failed" for other in self._members)
        cause = getattr(error, "cause", None)
        if isinstance(cause, SnapshotMismatch):
            self._fatal = SnapshotMismatch(f"{member.name}: {cause}")
        elif not self._has_served or self._settings.max - failed < self._settings.min:
            starts = "" if member.failed_starts < 2 else f", after {member.failed_starts} starts"
            self._fatal = RunFailed(f"{member.name} cannot start{starts}: {member.failure}")

    @staticmethod
    def _is_final(error: Exception) -> bool:
        return isinstance(error, RayTaskError) and isinstance(error.cause, (UserError, SnapshotMismatch))

    def _why(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"it took more than {self._settings.hang_seconds:g} s"
        if isinstance(error, RayTaskError):
            return f"{type(error.cause).__name__}: {error.cause}"
        return "its process died" if isinstance(error, RayActorError) else str(error)

    async def _refresh(self, member: Member) -> None:
        """Bring a member that serves to a new state."""
        life = member.restarts
        try:
            await self._settle(member)
        except (RayError, TimeoutError) as error:
            why = f"{member.name}: while it loaded, slept or woke: {self._why(error)}"
            if self._is_final(error):
                self._give_up(member, error)
            elif isinstance(error, RayActorError):
                self._lost(member, why, life)
            else:
                self._replace(member, why, life)
        await self._notify()

    async def _settle(self, member: Member) -> None:
        """Bring a running member to what is wanted: asleep, or awake with the pool's snapshot."""
        async with member.settling:
            while True:
                snapshot = self._state.snapshot if self._state else None
                if self._asleep() and member.awake:
                    await self._in_time(member.actor.sleep.remote())
                    member.awake = False
                elif not self._asleep() and not member.awake:
                    await self._in_time(member.actor.wake.remote())
                    member.awake = True
                    member.snapshot = None if snapshot else member.snapshot  # sleep gave up the weights
                elif not self._asleep() and snapshot is not None and member.snapshot != snapshot.name:
                    await self._in_time(member.actor.load.remote(snapshot))
                    member.snapshot = snapshot.name
                else:
                    return

    async def _poll(self, member: Member) -> None:
        life, member.polled = member.restarts, time.monotonic()
        try:
            progress = await asyncio.wait_for(member.actor.progress.remote(), POLL_SECONDS)
        except RayActorError:
            self._lost(member, f"{member.name}: its process died", life)
        except RayTaskError as error:  # nobody needs to ask an engine anything to learn that it is gone
            self._replace(member, f"{member.name}: {self._why(error)}", life)
        except TimeoutError:
            return  # a machine that is busy; the engine's own calls have their time limit
        else:
            if member.state == "up" and member.restarts == life:
                member.take(progress, time.monotonic())

    def _asleep(self) -> bool:
        return self._state is not None and self._state.asleep

    def _in_time(self, call: Awaitable[Any]) -> Awaitable[Any]:
        return asyncio.wait_for(call, self._settings.hang_seconds)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

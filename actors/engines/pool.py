"""A pool of engine actors: starts them, routes work to the least loaded, moves work away from the dead, grows and shrinks.

In: a method name and its arguments. Out: what one member returned. Ray starts, places and restarts the members;
those that do not fit yet stay pending and drive the autoscaler.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayActorError, RayTaskError

from sppo_ray.config import PoolSettings
from sppo_ray.errors import BlockFailed, ConfigError, EngineFailed, PoolAsleep, RunFailed
from sppo_ray.records import Snapshot
from sppo_ray.reporting import MemberState, MemberStatus, Outage, PoolStatus

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
TEND_SECONDS = 1.0


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
    asleep: bool = False
    failure: str | None = None  # why it can never start
    outage: int | None = None  # index of the outage that it is recovering from
    settling: asyncio.Lock = field(default_factory=asyncio.Lock)


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class Pool:
    """Identical actors with `placed()`, `ready() -> (pid, snapshot)`, `load(snapshot)`, `sleep()` and `wake()`.

    start: makes a member's actor from its name.  room: how many members the cluster can hold now (default: any number).
    """

    def __init__(
        self, name: str, start: Callable[[str], Any], settings: PoolSettings, room: Callable[[], int] | None = None
    ) -> None:
        self._name = name
        self._start = start
        self._settings = settings
        self._room = room
        self._target = settings.max
        self._members: list[Member] = []
        self._outages: list[Outage] = []
        self._snapshot: Snapshot | None = None
        self._opened = self._asleep = self._paused = self._idle = False
        self._waiting = self._alone = 0
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"Pool({self._name})"

    async def open(self, snapshot: Snapshot | None = None) -> None:
        """Have the pool serve with this policy: starts, wakes and loads what has to be. Returns once `min` members serve."""
        self._snapshot = snapshot
        self._asleep = self._idle = False
        if not self._opened:
            self._opened = True
            self._spawn(self._tend())
        await self._adjust()
        for member in self._members:
            if member.state == "up":
                self._spawn(self._refresh(member))
        async with self._changed:
            await self._changed.wait_for(lambda: self._failed() or len(self._current()) >= self._settings.min)
        self._raise_if_failed()

    async def call(self, method: str, *args: Any, alone: bool = False) -> Any:
        """Run a method on the least loaded member, and on another one if that dies, hangs or fails.

        alone: on a member that does nothing else meanwhile. Raises `BlockFailed` with the causes after `tries` failures;
        a `RunFailed` of the member at once, for it is not the engine's.
        """
        causes: list[str] = []
        while len(causes) < self._settings.tries:
            member = await self._take(alone)
            try:
                return await asyncio.wait_for(getattr(member.actor, method).remote(*args), self._settings.hang_seconds)
            except RayTaskError as error:
                if isinstance(error.cause, RunFailed) and not isinstance(error.cause, EngineFailed):
                    raise error.cause from None
                causes.append(f"{member.name}: {type(error.cause).__name__}: {error.cause}")
                if isinstance(error.cause, EngineFailed):
                    self._replace(member, causes[-1])
            except RayActorError:
                causes.append(f"{member.name}: its process died")
                self._lost(member, causes[-1])
            except TimeoutError:
                causes.append(f"{member.name}: no answer in {self._settings.hang_seconds:g} s")
                self._replace(member, causes[-1])
            finally:
                member.load -= 1
                member.reserved = False if alone else member.reserved
                await self._notify()
        raise BlockFailed("; ".join(causes))

    async def member(self) -> tuple[str, Any]:
        """The least loaded member that serves, for a request that does not wait its turn. Raises `PoolAsleep`."""
        current = self._current()
        if not current:
            raise PoolAsleep(f"no member of the pool {self._name} serves now")
        best = min(current, key=lambda member: member.load)
        return best.name, best.actor

    async def sleep(self) -> None:
        """Have the engines give up their device memory until the pool is opened again."""
        self._asleep = True
        await asyncio.gather(*(self._refresh(member) for member in self._members if member.state == "up"))

    async def rest(self) -> None:
        """There is nothing to do for a while: shrink to `min` where the settings say so."""
        self._idle = self._settings.shrink_idle

    async def pause(self) -> None:
        """Start no more work until `resume`; what is in flight ends."""
        self._paused = True

    async def resume(self) -> None:
        self._paused = False
        await self._notify()

    async def scale(self, target: int) -> None:
        """Have this many members, as far as the cluster has room. Those that go finish their work first."""
        low, high = self._settings.min, self._settings.max
        if not low <= target <= high:
            raise ConfigError(f"{self._name}s: {target} is not between min = {low} and max = {high}")
        self._target = target
        await self._adjust()

    async def status(self) -> PoolStatus:
        members = [
            MemberStatus(
                m.name,
                "asleep" if m.state == "up" and m.asleep else m.state,
                m.pid,
                m.load,
                m.restarts,
                m.snapshot,
                m.failure,
            )
            for m in self._members
        ]
        settings = self._settings
        return PoolStatus(self._name, self._target, settings.min, settings.max, self._waiting, members, self._outages)

    # Routing

    async def _take(self, alone: bool) -> Member:
        """Wait for a member with room for a call, and count the call."""
        self._waiting += 1
        self._alone += alone  # other calls hold back meanwhile, or a member would never be free
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: self._failed() or self._free(alone))
        finally:
            self._waiting -= 1
            self._alone -= alone
        self._raise_if_failed()
        member = min(self._free(alone), key=lambda member: member.load)
        member.load += 1
        member.reserved = alone
        return member

    def _free(self, alone: bool) -> list[Member]:
        if self._paused or (self._alone and not alone):
            return []
        blocks = 1 if alone else self._settings.blocks
        return [member for member in self._current() if member.load < blocks and not member.reserved]

    def _current(self) -> list[Member]:
        wanted = self._snapshot.name if self._snapshot else None
        return [m for m in self._members if m.state == "up" and not m.asleep and m.snapshot == wanted]

    def _failed(self) -> bool:
        return bool(self._members) and all(member.failure for member in self._members)

    def _raise_if_failed(self) -> None:
        if self._failed():
            raise RunFailed(f"no member of the pool {self._name} can start: {self._members[0].failure}")

    # Size

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(TEND_SECONDS)
            await self._adjust()

    async def _adjust(self) -> None:
        """Start or drain members until there are as many as are wanted and the cluster has room for."""
        room = await asyncio.to_thread(self._room) if self._room else self._settings.max
        least = self._settings.min
        wanted = least if self._idle else max(least, min(self._target, room))
        staying = [member for member in self._members if member.state != "draining"]
        for _ in range(wanted - len(staying)):
            self._add()
        leaving = sorted(staying, key=lambda member: member.state != "starting")  # the pending ones first
        for member in leaving[: max(0, len(staying) - wanted)]:
            self._spawn(self._drain(member))

    def _add(self) -> None:
        taken = {member.name for member in self._members}
        name = next(name for n in range(len(taken) + 1) if (name := f"{self._name}-{n}") not in taken)
        member = Member(name, self._start(name))
        self._members.append(member)
        self._spawn(self._bring_up(member))

    async def _drain(self, member: Member) -> None:
        was, member.state = member.state, "draining"
        async with self._changed:
            await self._changed.wait_for(lambda: member.load == 0)
        self._members.remove(member)
        if was == "up":
            member.actor.__ray_terminate__.remote()
        else:
            ray.kill(member.actor)

    # Life of a member

    def _lost(self, member: Member, why: str) -> None:
        if member.state != "up":
            return
        log.warning("%s; its work moves on", why)
        member.state = "starting"
        member.restarts += 1
        member.outage = len(self._outages)
        self._outages.append(Outage(member.name, time.time(), why, member.load))
        self._spawn(self._bring_up(member))

    def _replace(self, member: Member, why: str) -> None:
        if member.state == "up":
            ray.kill(member.actor, no_restart=False)
            self._lost(member, why)

    async def _bring_up(self, member: Member) -> None:
        """Wait until Ray has the member running, bring it to what the pool wants, and open it for work."""
        while member.state == "starting":
            try:
                await member.actor.placed.remote()  # may take for ever: until the cluster has room
                member.pid, member.snapshot = await self._in_time(member.actor.ready.remote())
                member.asleep = False
                await self._settle(member)
            except (ActorDiedError, RayTaskError) as error:
                self._give_up(member, str(error))
            except RayActorError:
                await asyncio.sleep(RETRY_SECONDS)
            except TimeoutError:
                log.warning("%s did not start in %g s; it starts again", member.name, self._settings.hang_seconds)
                ray.kill(member.actor, no_restart=False)
            else:
                self._up(member)
        await self._notify()

    def _up(self, member: Member) -> None:
        if member.state == "starting":
            member.state = "up"
        if member.outage is not None:
            outage = self._outages[member.outage]
            self._outages[member.outage] = replace(outage, seconds=round(time.time() - outage.at, 2))
            member.outage = None

    def _give_up(self, member: Member, why: str) -> None:
        if member.state == "starting":
            log.warning("%s cannot start: %s", member.name, why)
            member.state, member.failure = "failed", why
            ray.kill(member.actor)  # what it holds is free for others

    async def _refresh(self, member: Member) -> None:
        try:
            await self._settle(member)
        except RayTaskError as error:
            self._replace(member, f"{member.name}: {error}")
        except RayActorError:
            self._lost(member, f"{member.name}: its process died")
        except TimeoutError:
            self._replace(member, f"{member.name}: did not load a policy in {self._settings.hang_seconds:g} s")
        await self._notify()

    async def _settle(self, member: Member) -> None:
        """Bring a running member to what the pool wants: asleep, or awake with the pool's snapshot."""
        async with member.settling:
            while True:
                wanted = self._snapshot
                if self._asleep and not member.asleep:
                    await self._in_time(member.actor.sleep.remote())
                    member.asleep = True
                elif not self._asleep and member.asleep:
                    await self._in_time(member.actor.wake.remote())
                    member.asleep = False
                    member.snapshot = None if wanted else member.snapshot  # sleep gave up the weights
                elif not self._asleep and wanted is not None and member.snapshot != wanted.name:
                    await self._in_time(member.actor.load.remote(wanted))
                    member.snapshot = wanted.name
                else:
                    return

    def _in_time(self, call: Awaitable[Any]) -> Awaitable[Any]:
        return asyncio.wait_for(call, self._settings.hang_seconds)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

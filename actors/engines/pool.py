"""A pool of engine actors: routes work to the least loaded, and moves work away from the dead.

In: the state that the coordinator wants; a method name and its arguments. Out: what one member returned.
"""

from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from actors.engines.member import Member, PoolState
from actors.engines.members import Members
from sppo_ray.errors import BlockFailed, ConfigError, EngineFailed, PoolAsleep, RunFailed
from sppo_ray.records import Snapshot
from sppo_ray.reporting import PoolStatus


class Routing(Members):
    """Identical actors with `placed`, `ready() -> (pid, snapshot)`, `load(snapshot)`, `sleep`, `wake` and `progress`."""

    _waiting = 0
    _alone = 0

    async def desire(self, state: PoolState) -> PoolStatus:
        """Make this the state of the pool and return the pool's status, without waiting until the members have followed.

        A pool that restarted knows no state and does nothing until it is told: send it again at any time.
        """
        low, high = self._settings.min, self._settings.max
        if state.target is not None and not low <= state.target <= high:
            raise ConfigError(f"{self._name}s: {state.target} is not between min = {low} and max = {high}")
        if state != self._state:
            if self._state is None:
                self._spawn(self._tend())
            self._state = state
            await self._adjust()
            for member in self._members:
                if member.state == "up":
                    self._spawn(self._refresh(member))
            await self._notify()
        return self._status()

    async def settled(self) -> None:
        """Return once `min` members serve with the wanted snapshot; or, if the pool is to sleep, once no engine holds a device."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._fatal or self._is_settled())
        self._raise_if_failed()

    async def open(self, snapshot: Snapshot | None = None) -> None:
        """Awake, with this snapshot. Returns once `min` members serve; a paused pool stays paused."""
        await self.desire(replace(self._state or PoolState(), snapshot=snapshot, asleep=False, idle=False))
        await self.settled()

    async def status(self) -> PoolStatus:
        return self._status()

    async def call(self, method: str, *args: Any, alone: bool = False) -> Any:
        """Run a method on the least loaded member, and on another one if that dies, hangs or fails.

        alone: on a member that does nothing else meanwhile. Raises `BlockFailed` with the causes after `tries` failures,
        and at once any other `RunFailed` of the member that is no engine's failure.
        """
        causes: list[str] = []
        while len(causes) < self._settings.tries:
            member = await self._take(alone)
            life = member.restarts
            try:
                return await self._in_time(getattr(member.actor, method).remote(*args))
            except RayTaskError as error:
                if isinstance(error.cause, RunFailed) and not isinstance(error.cause, EngineFailed):
                    raise error.cause from None
                causes.append(f"{member.name}: {self._why(error)}")
                if isinstance(error.cause, EngineFailed):
                    self._replace(member, causes[-1], life)
            except RayActorError:
                causes.append(f"{member.name}: its process died")
                self._lost(member, causes[-1], life)
            except TimeoutError:
                causes.append(f"{member.name}: no answer in {self._settings.hang_seconds:g} s")
                self._replace(member, causes[-1], life)
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

    async def _take(self, alone: bool) -> Member:
        """Wait for a member with room for a call, and count the call."""
        self._waiting += 1
        self._alone += alone  # other calls hold back meanwhile, or a member would never be free
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: self._fatal or self._free(alone))
        finally:
            self._waiting -= 1
            self._alone -= alone
        self._raise_if_failed()
        member = min(self._free(alone), key=lambda member: member.load)
        member.load += 1
        member.reserved = alone
        return member

    def _free(self, alone: bool) -> list[Member]:
        if self._state is None or self._state.paused or (self._alone and not alone):
            return []
        blocks = 1 if alone else self._settings.blocks
        return [member for member in self._current() if member.load < blocks and not member.reserved]

    def _current(self) -> list[Member]:
        """The members that serve."""
        wanted = self._state.snapshot.name if self._state and self._state.snapshot else None
        return [
            member for member in self._members if member.state == "up" and member.awake and member.snapshot == wanted
        ]

    def _is_settled(self) -> bool:
        if self._asleep():
            return not any(member.awake or member.settling.locked() for member in self._members)
        return self._state is not None and len(self._current()) >= self._settings.min

    def _raise_if_failed(self) -> None:
        if self._fatal is not None:
            raise self._fatal

    def _status(self) -> PoolStatus:
        settings = self._settings
        return PoolStatus(
            self._name,
            (self._state and self._state.target) or settings.max,
            settings.min,
            settings.max,
            self._waiting,
            [member.status() for member in self._members],
            self._outages,
        )


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, enable_task_events=False)  # type: ignore[call-overload]
class Pool(Routing):
    """A pool in a process of its own. Its members end with it. Ray's list of tasks has the members' calls alone."""

    def __repr__(self) -> str:
        return f"Pool({self._name})"

"""Stub actors: what a pool sees of Ray, without processes. Each method answers as soon as its test lets it."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError

from actors.engines.pool import Routing
from sppo_ray.config import PoolSettings
from sppo_ray.errors import EngineFailed
from sppo_ray.records import Progress, Snapshot


class Method:
    """`actor.method.remote(*arguments)`, as a task of the event loop."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def remote(self, *arguments: Any) -> "asyncio.Task[Any]":
        return asyncio.ensure_future(self._function(*arguments))


class StubActor:
    """An engine actor. It says what was done with it in `calls`, and holds a device while `device` is true."""

    def __init__(self, world: "World", name: str) -> None:
        self.world, self.name = world, name
        self.calls: list[str] = []
        self.device = self.dead = self.started = False
        self.snapshot: str | None = None
        self.tokens = 0
        self.gone = asyncio.Event()

    def __getattr__(self, method: str) -> Method:
        if method.startswith("_") and method != "__ray_terminate__":
            raise AttributeError(method)
        return Method(lambda *arguments: self._run(method, *arguments))

    async def _run(self, method: str, *arguments: Any) -> Any:
        if method == "progress":
            self.world.polls[self.name] += 1
            if self.world.errors.get(method):
                raise task_error(self.world.errors[method].pop(0))
            return Progress(self.tokens, 3) if self.started else None
        self.calls.append(method)
        if self.dead:
            raise ActorDiedError()
        if method == "__ray_terminate__":
            self.die(restart=False)
        if method in ("placed", "__ray_terminate__"):
            return None
        if not self.started and method != "ready":
            raise task_error(EngineFailed("it has restarted and holds no engine yet"))
        self.world.calls[method] += 1
        self.world.log.append((self.name, method, *arguments))
        if method == "ready":
            self.device = True
            self.world.most_devices = max(self.world.most_devices, sum(a.device for a in self.world.actors))
        await self._unless_killed(self.world.hold)
        if self.world.errors.get(method):
            raise task_error(self.world.errors[method].pop(0))
        if method == "ready":
            self.started, self.snapshot = True, "iter-0"
            return id(self), self.snapshot
        if method == "load":
            (snapshot,) = arguments
            assert isinstance(snapshot, Snapshot)
            self.snapshot = snapshot.name
        if method in ("sleep", "wake"):
            self.device = method == "wake"
        return f"{self.name} did {method}"

    async def _unless_killed(self, event: asyncio.Event) -> None:
        waiting = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self.gone.wait())]
        _, rest = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for other in rest:
            other.cancel()
        if waiting[1].done():
            raise ActorDiedError() if self.dead else ActorUnavailableError("its process died", None)

    def die(self, restart: bool = True) -> None:
        """Its process ends. Ray starts another one in its place, or the actor is dead."""
        self.dead, self.device, self.started, self.snapshot = not restart, False, False, None
        gone, self.gone = self.gone, asyncio.Event()
        gone.set()


class World:
    """All actors that were made. errors: what a method raises, call by call.  hold: while it is clear, calls do not return."""

    def __init__(self) -> None:
        self.actors: list[StubActor] = []
        self.errors: dict[str, list[Exception]] = {}
        self.calls: Counter[str] = Counter()
        self.polls: Counter[str] = Counter()  # by member
        self.log: list[tuple[Any, ...]] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.most_devices = 0

    def start(self, name: str) -> StubActor:
        self.actors.append(StubActor(self, name))
        return self.actors[-1]

    @staticmethod
    def kill(actor: StubActor, *, no_restart: bool = True) -> None:
        """Stands for `ray.kill`."""
        actor.die(restart=not no_restart)

    @property
    def alive(self) -> list[StubActor]:
        return [actor for actor in self.actors if not actor.dead]


def task_error(cause: Exception) -> RayTaskError:
    return RayTaskError("stub", "traceback", cause)


def play(
    story: Callable[[World, Routing], Awaitable[None]], room: Callable[[], int] | None = None, **settings: Any
) -> World:
    """Run a story on a pool of stub actors."""

    async def run() -> World:
        world = World()
        pool = Routing("generator", world.start, PoolSettings(**({"min": 2, "max": 2} | settings)), room)
        async with asyncio.timeout(10):
            await story(world, pool)
        return world

    return asyncio.run(run())


async def until(reached: Callable[[], Any]) -> None:
    while not reached():
        await asyncio.sleep(0.001)

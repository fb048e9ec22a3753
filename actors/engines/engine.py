"""What the shells around engines share: an engine that starts when the pool asks, sleeps and wakes.

In: how to build the engine. Out: the running engine, for the shell's own methods.
"""

from collections.abc import Callable
from typing import Any

import ray

from sppo_ray.errors import EngineFailed
from sppo_ray.records import Progress
from sppo_ray.run_folder import Ledger


class EngineActor:
    """Base of the shells. Its subclasses add `ready`, which starts the engine."""

    def __init__(self, name: str, build: Callable[[], Any], ledger: Ledger) -> None:
        self._name = name
        self._ledger = ledger
        self._build = build
        self._started: Any = None

    def __repr__(self) -> str:
        return self._name

    def _start(self) -> Any:
        """Start the engine. Not in the constructor, which Ray would repeat without end if it failed."""
        if self._started is None:
            self._started = self._build()
        return self._started

    @property
    def _engine(self) -> Any:
        if self._started is None:
            # Ray restarted a process that died while it was idle, and the pool has not noticed yet.
            raise EngineFailed(f"{self._name} has restarted and holds no engine yet")
        return self._started

    def placed(self) -> None:
        """Return as soon as the process runs."""

    @ray.method(enable_task_events=False)  # asked every second
    def progress(self) -> Progress | None:
        """What the engine has done and does; None for an engine that does not count."""
        return None

    def sleep(self) -> None:
        self._engine.sleep()

    def wake(self) -> None:
        self._engine.wake()

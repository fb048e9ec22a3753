"""Live progress for any number of listeners: the run is read once per second, less often for many; all get the same bytes.

In: a function that returns the current event. Out: a stream of server-sent events for each listener; a slow one skips some.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

SECONDS = 1.0  # the least time between two reads of the run
MOST_EVENTS = 200  # per second, to all listeners together: more would slow a run that shares the machine
ALIVE_SECONDS = 10.0  # after which an unchanged event is sent once more
MOST_LISTENERS = 4000


class TooManyListeners(Exception):
    pass


class Broadcast:
    def __init__(self, read: Callable[[], Awaitable[bytes]]) -> None:
        self._read = read
        self._latest = b""
        self._number = 0
        self._news = asyncio.Event()
        self._listeners = 0
        self._reader: asyncio.Task[None] | None = None

    def listen(self) -> AsyncIterator[bytes]:
        """Raises `TooManyListeners` at once."""
        if self._listeners >= MOST_LISTENERS:
            raise TooManyListeners
        self._listeners += 1
        if self._reader is None or self._reader.done():
            self._reader = asyncio.get_running_loop().create_task(self._keep_reading())
            # Its end, or failure, ends the listeners, too.
            self._reader.add_done_callback(lambda _: self._news.set())
        return self._events(self._reader)

    async def _events(self, reader: asyncio.Task[None]) -> AsyncIterator[bytes]:
        try:
            yield b"retry: 2000\n\n" + self._latest
            seen = self._number
            while True:
                if seen == self._number:
                    await self._news.wait()
                if reader.done():
                    reader.result()
                seen = self._number
                yield self._latest
        finally:
            self._listeners -= 1

    async def _keep_reading(self) -> None:
        """Runs while there are listeners."""
        loop = asyncio.get_running_loop()
        sent = 0.0
        while self._listeners:
            event = await self._read()
            if event != self._latest or loop.time() - sent > ALIVE_SECONDS:
                self._latest, sent = event, loop.time()
                self._number += 1
                news, self._news = self._news, asyncio.Event()
                news.set()
            await asyncio.sleep(max(SECONDS, self._listeners / MOST_EVENTS))
        self._latest = b""

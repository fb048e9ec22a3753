"""People's share of the engines: a bounded number of answers at once; a bounded number of requests waits.

In: how many answers a request asks for. Out: its turn, or `TooBusy` at once.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

MOST_WAITING = 512  # requests


class TooBusy(Exception):
    pass


class Turns:
    def __init__(self, answers: int) -> None:
        self._answers = answers
        self._sampled = self._waiting = 0
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def take(self, answers: int) -> AsyncIterator[None]:
        """Wait until that many more answers may be sampled; a request for more than the limit takes all of it."""
        answers = min(answers, self._answers)
        if self._waiting >= MOST_WAITING:
            raise TooBusy
        self._waiting += 1
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: self._sampled + answers <= self._answers)
                self._sampled += answers
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._sampled -= answers
            async with self._changed:
                self._changed.notify_all()

"""What the service needs of a run: its state, four ways to steer it, and engines that answer.

In: requests of people. Out: `RunStatus`, pieces of answers. `sppo_ray.fakes.FakeRun` is one without a cluster.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from sppo_ray.errors import SppoError
from sppo_ray.records import ChatRequest, Message, TokenDelta
from sppo_ray.reporting import RunStatus
from sppo_ray.run_folder import Ledger


class Unavailable(SppoError):
    """What was asked for is not there now and will be again: engines asleep, a coordinator that restarts."""


class Run(Protocol):
    """A run in progress. Every method may raise `Unavailable`."""

    @property
    def ledger(self) -> Ledger:
        """The run folder."""

    async def status(self) -> RunStatus: ...

    async def pause(self) -> None: ...

    async def resume(self) -> None: ...

    async def stop(self) -> None:
        """End the run in order; the same command continues it."""

    async def scale(self, pool: str, target: int) -> None:
        """Have a pool aim at this many members; raises `ConfigError` outside the pool's bounds."""

    async def encode(self, messages: Sequence[Message]) -> list[int]:
        """Messages as the policy's token ids; raises `PromptError` where its chat template refuses them."""

    def chat(self, ask: ChatRequest) -> AsyncGenerator[TokenDelta]:
        """The policy's answers, as they are sampled. Closing the generator ends the request at the engine."""

    async def best(self, prompt: str, answers: Sequence[str]) -> int:
        """Which of the answers the judge prefers."""

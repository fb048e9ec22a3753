"""What the service needs of a run: its state, four ways to steer it, and engines that answer.

In: requests of people. Out: `RunStatus`, answers as they are sampled. `sppo_ray.fakes.FakeRun` is one without a cluster.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from sppo_ray.errors import SppoError
from sppo_ray.records import ChatRequest, Message, TokenDelta
from sppo_ray.reporting import RunStatus
from sppo_ray.run_folder import Ledger


class Unavailable(SppoError):
    """Temporarily not available: engines asleep, a coordinator that restarts."""


class Run(Protocol):
    """A run in progress. Every method may raise `Unavailable`."""

    @property
    def ledger(self) -> Ledger:
        """The run folder."""

    async def status(self) -> RunStatus: ...

    async def pause(self) -> None: ...

    async def resume(self) -> None: ...

    async def stop(self) -> None:
        """Write a checkpoint and end the run; the same command continues it."""

    async def scale(self, pool: str, target: int) -> None:
        """Set the target number of members of a pool; raises `ConfigError` outside the pool's bounds."""

    async def encode(self, messages: Sequence[Message]) -> list[int]:
        """Messages as the policy's token ids; raises `PromptError` if its chat template refuses them."""

    def chat(self, ask: ChatRequest) -> AsyncGenerator[TokenDelta]:
        """The policy's answers, as they are sampled. Closing the generator ends the request at the engine."""

    async def best(self, prompt: str, answers: Sequence[str]) -> int:
        """Which of the answers the judge prefers."""

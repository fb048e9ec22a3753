"""The protocol of an engine that samples; `fakes` has one without a model.

In: `Prompt`s, or a `ChatRequest`. Out: `Candidates`, stamped with the snapshot they came from, or `TokenDelta`s.
"""

from collections.abc import Iterator
from typing import Protocol

from sppo_ray.records import Candidates, ChatRequest, Prompt, Snapshot, TokenDelta


class Generator(Protocol):
    """An engine that samples. Its methods may be called from several threads at once; calls share the engine's batch."""

    @property
    def snapshot(self) -> Snapshot:
        """The policy it holds."""

    def generate(self, prompts: list[Prompt], candidates: int, snapshot: str) -> list[Candidates]:
        """Sample from the snapshot of that name; raises `SnapshotMismatch` if it holds another."""

    def chat(self, ask: ChatRequest, name: str) -> Iterator[list[TokenDelta]]:
        """Answer a person, before the requests of the run: the pieces as they are sampled, those of one moment together."""

    def abort(self, name: str) -> None:
        """End the answer to the request of that name, if it still goes on."""

    def load(self, snapshot: Snapshot) -> None:
        """Take another policy's weights in place, after the requests in flight."""

    def sleep(self) -> None:
        """Give up the device memory, weights included, after the requests in flight. What is asked of it next is `wake`."""

    def wake(self) -> None:
        """Take the device memory again; a policy has to be loaded before the next request."""

"""The protocol of an engine that samples; `fakes` has one without a model.

In: `Prompt`s, or a `ChatRequest`. Out: `Candidates`, stamped with the snapshot they came from, or `TokenDelta`s.
"""

from collections.abc import Iterator
from typing import Protocol

from sppo_ray.records import Candidates, ChatRequest, Progress, Prompt, Snapshot, TokenDelta


class Generator(Protocol):
    """An engine that samples. Its methods may be called from several threads at once; calls share the engine's batch."""

    @property
    def snapshot(self) -> Snapshot:
        """The policy it holds."""

    def generate(self, prompts: list[Prompt], candidates: int, snapshot: str) -> list[Candidates]:
        """Sample from the snapshot of that name; raises `SnapshotMismatch` if it holds another."""

    def logprobs(self, sequences: list[tuple[list[int], int]], snapshot: str) -> list[list[float]]:
        """log pi of each token of sequences (token ids, index of the first token asked for) under the snapshot of that name.

        Raw, in nats, as `Candidates.logprobs`. Raises `SnapshotMismatch` if the engine holds another snapshot.
        """

    def chat(self, ask: ChatRequest, name: str) -> Iterator[list[TokenDelta]]:
        """Answer a person, ahead of the run's requests: the tokens as they are sampled, those of one step together."""

    def abort(self, name: str) -> None:
        """End the answer to the request of that name, if it is still in progress."""

    def progress(self) -> Progress:
        """Tokens sampled for the run so far, unfinished responses included, and sequences in flight. Cheap; waits for nothing.

        Raises `EngineFailed` once the engine is beyond repair.
        """

    def load(self, snapshot: Snapshot) -> None:
        """Load new weights in place once in-flight requests finish; raises `SnapshotMismatch` if they are not the snapshot's."""

    def sleep(self) -> None:
        """Free the device memory, weights included, once in-flight requests finish. The next call must be `wake`."""

    def wake(self) -> None:
        """Take the device memory again. The next call must be `load`."""

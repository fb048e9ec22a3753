"""Engines without a model, for tests and for trying out a cluster: they take a set time and answer deterministically.

In and out: as the real engines. The same prompt and snapshot always give the same candidates.
"""

import hashlib
import random
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sppo_ray.errors import EngineFailed, SnapshotMismatch
from sppo_ray.records import Candidates, Prompt, Snapshot


class FakeGenerator:
    """Answers with random words of a small vocabulary. seconds: that a call takes."""

    def __init__(self, snapshot: Snapshot, seconds: float = 0.0, vocabulary: int = 64) -> None:
        self._snapshot, self._seconds, self._vocabulary = snapshot, seconds, vocabulary
        self._asleep = False

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot

    def generate(self, prompts: list[Prompt], candidates: int, snapshot: str) -> list[Candidates]:
        if self._asleep:
            raise EngineFailed("the generator is asleep")
        if snapshot != self._snapshot.name:
            raise SnapshotMismatch(f"the generator holds {self._snapshot.name}, the work asks for {snapshot}")
        time.sleep(self._seconds)
        return [self._answer(prompt, candidates) for prompt in prompts]

    def load(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def sleep(self) -> None:
        self._asleep = True

    def wake(self) -> None:
        self._asleep = False

    def _answer(self, prompt: Prompt, candidates: int) -> Candidates:
        chance = random.Random(f"{self._snapshot.name} {prompt.prompt_id}")
        token_ids = [
            [chance.randrange(2, self._vocabulary) for _ in range(chance.randint(1, 9))] for _ in range(candidates)
        ]
        return Candidates(
            prompt_id=prompt.prompt_id,
            prompt=prompt.text,
            prompt_token_ids=prompt.token_ids,
            responses=[" ".join(f"w{number}" for number in ids) for ids in token_ids],
            token_ids=token_ids,
            logprobs=[[-1.0 - number / 64 for number in ids] for ids in token_ids],
            finish_reasons=["stop"] * candidates,
            snapshot=self._snapshot.name,
        )


class FakeJudge:
    """Scores a text by its digest, so its preferences are transitive. seconds: that a call takes."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds

    def compare(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        time.sleep(self._seconds)
        scores = np.array([[self._score(text) for text in texts] for texts in candidates], dtype=np.float32)
        return scores[:, :, None] - scores[:, None, :]

    def truncated(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        return np.zeros(len(prompts), dtype=np.float32)

    def sleep(self) -> None:
        """A fake holds no device memory."""

    def wake(self) -> None:
        """A fake is always awake."""

    @staticmethod
    def _score(text: str) -> float:
        return hashlib.sha256(text.encode()).digest()[0] / 64

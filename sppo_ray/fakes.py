"""Engines without a model and a run without a cluster, for tests and for trying things out.

In and out: as the real ones. The same prompt and snapshot give the same candidates, unless a generator is `varied`.
"""

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sppo_ray.errors import ConfigError, EngineFailed, SnapshotMismatch
from sppo_ray.records import Candidates, ChatRequest, Message, Progress, Prompt, Snapshot, TokenDelta, TokenLogprobs
from sppo_ray.reporting import MemberStatus, PoolStatus, RunStatus, new_stages
from sppo_ray.run_folder import Ledger
from sppo_ray.web.protocol import Unavailable


class FakeGenerator:
    """Answers with random words of a small vocabulary.

    seconds: that a call takes.  varied: sample differently in each call, as real engines do.
    stale: loads change nothing, as if the engine kept its old weights.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        seconds: float = 0.0,
        vocabulary: int = 64,
        varied: bool = False,
        stale: bool = False,
    ) -> None:
        self._snapshot, self._seconds, self._vocabulary = snapshot, seconds, vocabulary
        self._varied, self._stale = varied, stale
        self._asleep = False
        self._sampled = self._sampling = 0

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot

    def generate(self, prompts: list[Prompt], candidates: int, snapshot: str) -> list[Candidates]:
        if self._asleep:
            raise EngineFailed("the generator is asleep")
        if snapshot != self._snapshot.name:
            raise SnapshotMismatch(f"the generator holds {self._snapshot.name}, the work asks for {snapshot}")
        self._sampling += candidates * len(prompts)
        time.sleep(self._seconds)
        rows = [self._answer(prompt, candidates) for prompt in prompts]
        self._sampling -= candidates * len(prompts)
        self._sampled += sum(len(ids) for row in rows for ids in row.token_ids)
        return rows

    def logprobs(self, sequences: list[tuple[list[int], int]], snapshot: str) -> list[list[float]]:
        if snapshot != self._snapshot.name:
            raise SnapshotMismatch(f"the generator holds {self._snapshot.name}, the work asks for {snapshot}")
        time.sleep(self._seconds)
        return [[-1.0 - number / 50 for number in token_ids[start:]] for token_ids, start in sequences]

    def progress(self) -> Progress:
        return Progress(self._sampled, self._sampling)

    def load(self, snapshot: Snapshot) -> None:
        if self._stale and snapshot != self._snapshot:
            raise SnapshotMismatch(f"the loaded weights are not those of {snapshot.name}, but of {self._snapshot.name}")
        self._snapshot = snapshot

    def sleep(self) -> None:
        self._asleep = True

    def wake(self) -> None:
        self._asleep = False

    def chat(self, ask: ChatRequest, name: str) -> Iterator[list[TokenDelta]]:
        for word in range(ask.max_tokens):
            time.sleep(self._seconds)
            reason = "stop" if word == ask.max_tokens - 1 else None
            name = self._snapshot.name
            yield [TokenDelta(index, f"{name} ", 1, name, reason) for index in range(ask.n)]

    def abort(self, name: str) -> None:
        pass

    def _answer(self, prompt: Prompt, candidates: int) -> Candidates:
        rng = random.Random(None if self._varied else f"{self._snapshot.name} {prompt.prompt_id}")
        token_ids = [[rng.randrange(2, self._vocabulary) for _ in range(rng.randint(1, 9))] for _ in range(candidates)]
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


class FakeRun:
    """A run whose stages move by one prompt whenever somebody looks, unless it is paused.

    seconds: per word of an answer.  asleep: whether the engines sleep.  snapshot: the one they hold.
    asked: the last request.  Each word has log-probability -0.5 and is the most likely one, "other" the second, at -1.
    """

    def __init__(self, ledger: Ledger, prompts: int = 40, seconds: float = 0.0) -> None:
        self.ledger = ledger
        self.asleep = False
        self.chats = 0  # in progress
        self.snapshot = f"iter-{ledger.finished_iterations()}"
        self.asked: ChatRequest | None = None
        self._seconds = seconds
        pools = {
            name: PoolStatus(name, 2, 1, 4, 0, [_member(name, n) for n in range(2)], [])
            for name in ("generators", "rankers")
        }
        self._status = RunStatus(
            ledger.finished_iterations() + 1, 3, "sampling, judging, training", stages=new_stages(prompts), pools=pools
        )

    async def status(self) -> RunStatus:
        if not self._status.paused:
            for number, stage in enumerate(self._status.stages.values()):
                if self._status.stages["generate"].done >= 3 * number:
                    stage.begin()
                    stage.add(1)
            trained = self._status.stages["train"].done
            self._status.step = {"step": trained, "loss": 2.0 / (trained + 1), "gradient_norm": 1.5}
        return self._status

    async def pause(self) -> None:
        self._status.paused = True

    async def resume(self) -> None:
        self._status.paused = False

    async def stop(self) -> None:
        self._status.phase = "stopping"

    async def scale(self, pool: str, target: int) -> None:
        status = self._status.pools[pool]
        if not status.min <= target <= status.max:
            raise ConfigError(f"{pool}: {target} is not between min = {status.min} and max = {status.max}")
        members = [_member(pool, number) for number in range(target)]
        self._status.pools[pool] = replace(status, target=target, members=members)

    async def encode(self, messages: Sequence[Message]) -> list[int]:
        return [len(word) for turn in messages for word in turn["content"].split()]

    async def chat(self, ask: ChatRequest) -> AsyncGenerator[TokenDelta]:
        if self.asleep:
            raise Unavailable("the engines sleep while the policy trains")
        self.chats += 1
        self.asked = ask
        try:
            for word in range(min(ask.max_tokens, 5)):
                for index in range(ask.n):
                    await asyncio.sleep(self._seconds)
                    reason = "stop" if word == min(ask.max_tokens, 5) - 1 else None
                    text = f"w{index}{word} "
                    logprobs: tuple[TokenLogprobs, ...] = ()
                    if ask.logprobs is not None:
                        logprobs = (TokenLogprobs(text, -0.5, ((text, -0.5), ("other", -1.0))[: ask.logprobs]),)
                    yield TokenDelta(index, text, 1, self.snapshot, reason, logprobs)
        finally:
            self.chats -= 1

    async def best(self, prompt: str, answers: Sequence[str]) -> int:
        return int(FakeJudge().compare([prompt], [answers])[0].sum(axis=1).argmax())


def _member(pool: str, number: int) -> MemberStatus:
    member = MemberStatus(f"{pool[:-1]}-{number}", "up", 1000, 1, 0, "iter-0")
    return replace(member, tokens=5000, tokens_per_second=320.0, sequences=40) if pool == "generators" else member

"""What a generator is asked for, one request of vLLM's each.

In: a prompt, a sequence to score, or a person's question. Out: what vLLM returns for it, to whoever waits.
"""

import queue
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from sppo_ray.records import Candidates, ChatRequest, Prompt, TokenDelta
from sppo_ray.sampling.deltas import token_delta


@dataclass
class Request:
    """Candidates for a prompt."""

    prompt: Prompt
    candidates: int
    future: Future[Candidates]

    def take(self, output: Any, snapshot: str, text: Callable[[Any], str]) -> int:
        """text: of a completion. Returns the tokens of all."""
        completions = output.outputs
        row = Candidates(
            prompt_id=self.prompt.prompt_id,
            prompt=self.prompt.text,
            prompt_token_ids=self.prompt.token_ids,
            responses=[text(completion) for completion in completions],
            token_ids=[list(completion.token_ids) for completion in completions],
            logprobs=[list(completion.logprobs.logprobs) for completion in completions],
            finish_reasons=[completion.finish_reason for completion in completions],
            snapshot=snapshot,
        )
        self.future.set_result(row)
        return sum(map(len, row.token_ids))

    def fail(self, error: Exception) -> None:
        self.future.set_exception(error)


@dataclass
class Scoring:
    """The log-probabilities of a sequence's tokens from `start` on, which is 1 at least."""

    token_ids: list[int]
    start: int
    future: Future[list[float]]

    def take(self, output: Any) -> None:
        # One number for each token but the first, which nothing precedes.
        self.future.set_result(list(output.prompt_logprobs.logprobs[self.start - 1 :]))

    def fail(self, error: Exception) -> None:
        self.future.set_exception(error)


@dataclass
class Chat:
    """A person's request. news: pieces of the answer, an error, or None at the end."""

    ask: ChatRequest
    name: str
    news: queue.SimpleQueue[list[TokenDelta] | Exception | None]

    def take(self, output: Any, snapshot: str) -> None:
        self.news.put([token_delta(completion, snapshot, self.ask.logprobs) for completion in output.outputs])
        if output.finished:
            self.news.put(None)

    def fail(self, error: Exception) -> None:
        self.news.put(error)

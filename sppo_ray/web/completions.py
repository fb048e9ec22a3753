"""An answer of the policy as OpenAI's format has it: one completion, or chunks as server-sent events.

In: the pieces of an answer, as they are sampled. Out: `Completion`, or lines of a stream.
"""

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

from sppo_ray.errors import SppoError
from sppo_ray.records import ChatRequest, TokenDelta
from sppo_ray.web.chat_models import (
    AssistantMessage,
    Choice,
    Completion,
    Logprobs,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from sppo_ray.web.problems import Problem


@dataclass(frozen=True)
class Question:
    """A request that can be answered. best_of: answers that the judge chooses from; 1 is no choice."""

    id: str
    model: str
    prompt: str
    ask: ChatRequest
    best_of: int


async def gather(pieces: AsyncIterator[TokenDelta]) -> list[TokenDelta]:
    """The whole answers, in order."""
    answers: dict[int, TokenDelta] = {}
    async for piece in pieces:
        if before := answers.get(piece.index):
            piece = replace(
                piece,
                text=before.text + piece.text,
                tokens=before.tokens + piece.tokens,
                logprobs=before.logprobs + piece.logprobs,
            )
        answers[piece.index] = piece
    return [answers[index] for index in sorted(answers)]


async def _chain(first: TokenDelta, rest: AsyncIterator[TokenDelta]) -> AsyncIterator[TokenDelta]:
    yield first
    async for piece in rest:
        yield piece


async def whole(question: Question, first: TokenDelta, rest: AsyncIterator[TokenDelta]) -> Completion:
    answers = await gather(_chain(first, rest))
    return Completion(
        id=question.id,
        created=int(time.time()),
        model=question.model,
        system_fingerprint=first.snapshot,
        choices=[
            Choice(
                index=answer.index,
                message=AssistantMessage(content=answer.text),
                logprobs=_logprobs(question, answer),
                finish_reason=answer.finish_reason or "stop",
            )
            for answer in answers
        ],
        usage=_usage(question, sum(answer.tokens for answer in answers)),
    )


async def lines(
    question: Question, first: TokenDelta, rest: AsyncIterator[TokenDelta], with_usage: bool
) -> AsyncIterator[str]:
    """The answer as server-sent events, one chunk per piece."""
    head = {
        "id": question.id,
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": question.model,
        "system_fingerprint": first.snapshot,
    }
    begun: set[int] = set()
    tokens = 0
    try:
        async for piece in _chain(first, rest):
            role = {} if piece.index in begun else {"role": "assistant"}
            begun.add(piece.index)
            tokens += piece.tokens
            choice: dict[str, Any] = {"index": piece.index, "delta": role | {"content": piece.text}}
            if (logprobs := _logprobs(question, piece)) is not None:
                choice["logprobs"] = logprobs.model_dump()
            yield _line(head | {"choices": [choice | {"finish_reason": piece.finish_reason}]})
    except SppoError as error:  # the status is sent already: OpenAI's clients raise an error inside the stream
        yield _line(Problem.of(503, str(error)).model_dump())
        return
    if with_usage:
        yield _line(head | {"choices": [], "usage": _usage(question, tokens).model_dump()})
    yield "data: [DONE]\n\n"


def _line(chunk: dict[str, Any]) -> str:
    return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"


def _logprobs(question: Question, piece: TokenDelta) -> Logprobs | None:
    if question.ask.logprobs is None:
        return None

    def fields(token: str, logprob: float) -> dict[str, Any]:
        return {"token": token, "logprob": logprob, "bytes": list(token.encode())}

    return Logprobs(
        content=[
            TokenLogprob(**fields(one.token, one.logprob), top_logprobs=[TopLogprob(**fields(*top)) for top in one.top])
            for one in piece.logprobs
        ]
    )


def _usage(question: Question, tokens: int) -> Usage:
    prompt = len(question.ask.token_ids)
    return Usage(prompt_tokens=prompt, completion_tokens=tokens, total_tokens=prompt + tokens)

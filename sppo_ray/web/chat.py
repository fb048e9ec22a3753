"""The policy as a chat model, in OpenAI's format: `/v1/models` and `/v1/chat/completions`, streaming and not.

In: messages. Out: answers of the current snapshot; of `policy-best-of-N`, the one of N that the judge prefers.
"""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.requests import ClientDisconnect

from sppo_ray.errors import SppoError
from sppo_ray.prompts import BadRow, parse_messages, transcript
from sppo_ray.records import ChatRequest, TokenDelta
from sppo_ray.web.chat_models import (
    AssistantMessage,
    Choice,
    Completion,
    CompletionRequest,
    Model,
    Models,
    Usage,
)
from sppo_ray.web.folder import RunFolder
from sppo_ray.web.problems import Problem, describe
from sppo_ray.web.protocol import Run
from sppo_ray.web.turns import TooBusy, Turns

T = TypeVar("T")
POLICY = "policy"
LISTED = (POLICY, f"{POLICY}-best-of-4")
GONE_SECONDS = 0.5  # between two looks whether the client is still there


@dataclass(frozen=True)
class Question:
    """A request that can be answered. best_of: answers that the judge chooses from; 1 is no choice."""

    id: str
    model: str
    snapshot: str
    prompt: str
    ask: ChatRequest
    best_of: int


def chat_routes(run: Run, folder: RunFolder, answers: int) -> APIRouter:
    """answers: to people, sampled at once."""
    router = APIRouter(prefix="/v1", responses=describe(401, 408, 413, 429, 503))
    turns = Turns(answers)

    @router.get("/models", summary="The models that answer")
    async def models() -> Models:
        started = int((await run.status()).started)
        return Models(data=[Model(id=name, created=started) for name in LISTED])

    @router.post(
        "/chat/completions",
        summary="An answer of the current policy",
        response_model=Completion,
        responses={
            200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
            **describe(400, 422),
        },
    )
    async def complete(body: CompletionRequest, request: Request) -> Response:
        question = await _question(body, run, folder)
        pieces = _pieces(question, run, turns)
        try:
            # What refuses the request does so before the first piece: with a status of its own.
            first = await _unless_gone(request, anext(pieces))
            if body.stream:
                usage = body.stream_options is not None and body.stream_options.include_usage
                return StreamingResponse(_lines(question, first, pieces, usage), media_type="text/event-stream")
            completion = await _unless_gone(request, _whole(question, first, pieces))
        except TooBusy:
            raise HTTPException(429, "too many people ask: try again", {"Retry-After": "5"}) from None
        except ClientDisconnect:
            return Response(status_code=499)  # which nobody reads
        return JSONResponse(completion.model_dump())

    return router


async def _question(body: CompletionRequest, run: Run, folder: RunFolder) -> Question:
    best_of = int(body.model.rpartition("-")[2]) if body.model != POLICY else 1
    if best_of > 1 and body.n > 1:
        raise HTTPException(400, f"{body.model} gives one answer: leave n at 1")
    try:
        messages = parse_messages([message.model_dump() for message in body.messages])
    except BadRow as error:
        raise HTTPException(400, f"messages: the conversation {error}") from None
    if len(messages) < len(body.messages):
        raise HTTPException(400, "messages: the conversation ends with an answer; end it with the user's turn")
    config = folder.config
    sampling = config.generation
    longest = body.max_completion_tokens or body.max_tokens or sampling.max_new_tokens
    temperature = sampling.temperature if body.temperature is None else body.temperature
    n = max(best_of, body.n)
    if n > 1 and temperature == 0:
        raise HTTPException(400, "temperature 0 gives one answer only: raise it, or ask for one")
    ids = await run.encode(messages)
    room = config.policy.max_prompt_length + sampling.max_new_tokens - len(ids)
    if room < 1:
        raise HTTPException(400, f"the conversation has {len(ids)} tokens, which leaves no room for an answer")
    ask = ChatRequest(ids, n, min(longest, room), temperature, body.top_p or sampling.top_p)
    snapshot = f"iter-{len(await asyncio.to_thread(folder.reports))}"
    return Question(f"chatcmpl-{uuid.uuid4().hex}", body.model, snapshot, transcript(messages), ask, best_of)


async def _pieces(question: Question, run: Run, turns: Turns) -> AsyncGenerator[TokenDelta]:
    """What is answered, when it is this request's turn; of best-of-n the best, in one piece."""
    async with turns.take(question.ask.n), aclosing(run.chat(question.ask)) as pieces:
        if question.best_of == 1:
            async for piece in pieces:
                yield piece
            return
        answers = await _gather(pieces)
    best = await run.best(question.prompt, [answer.text for answer in answers])
    yield replace(answers[best], index=0)


async def _gather(pieces: AsyncIterator[TokenDelta]) -> list[TokenDelta]:
    """The whole answers, in order."""
    answers: dict[int, TokenDelta] = {}
    async for piece in pieces:
        so_far = answers.get(piece.index, TokenDelta(piece.index, "", 0))
        answers[piece.index] = replace(piece, text=so_far.text + piece.text, tokens=so_far.tokens + piece.tokens)
    return [answers[index] for index in sorted(answers)]


async def _chain(first: TokenDelta, rest: AsyncIterator[TokenDelta]) -> AsyncIterator[TokenDelta]:
    yield first
    async for piece in rest:
        yield piece


async def _whole(question: Question, first: TokenDelta, rest: AsyncIterator[TokenDelta]) -> Completion:
    answers = await _gather(_chain(first, rest))
    return Completion(
        id=question.id,
        created=int(time.time()),
        model=question.model,
        system_fingerprint=question.snapshot,
        choices=[
            Choice(
                index=answer.index,
                message=AssistantMessage(content=answer.text),
                finish_reason=answer.finish_reason or "stop",
            )
            for answer in answers
        ],
        usage=_usage(question, sum(answer.tokens for answer in answers)),
    )


async def _lines(
    question: Question, first: TokenDelta, rest: AsyncIterator[TokenDelta], with_usage: bool
) -> AsyncIterator[str]:
    """The answer as server-sent events, a chunk a piece."""
    head = {
        "id": question.id,
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": question.model,
        "system_fingerprint": question.snapshot,
    }
    begun: set[int] = set()
    tokens = 0
    try:
        async for piece in _chain(first, rest):
            delta = {"content": piece.text} if piece.index in begun else {"role": "assistant", "content": piece.text}
            begun.add(piece.index)
            tokens += piece.tokens
            yield _line(
                head | {"choices": [{"index": piece.index, "delta": delta, "finish_reason": piece.finish_reason}]}
            )
    except SppoError as error:  # the status is sent already: OpenAI's clients raise what stands in the stream
        yield _line(Problem.of(503, str(error)).model_dump())
        return
    if with_usage:
        yield _line(head | {"choices": [], "usage": _usage(question, tokens).model_dump()})
    yield "data: [DONE]\n\n"


def _line(chunk: dict[str, Any]) -> str:
    return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"


def _usage(question: Question, tokens: int) -> Usage:
    prompt = len(question.ask.token_ids)
    return Usage(prompt_tokens=prompt, completion_tokens=tokens, total_tokens=prompt + tokens)


async def _unless_gone(request: Request, work: Awaitable[T]) -> T:
    """Cancel the work when its client has gone."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait([task], timeout=GONE_SECONDS))[0]:
            if await request.is_disconnected():
                raise ClientDisconnect
        return await task
    finally:
        task.cancel()

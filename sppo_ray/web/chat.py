"""The policy as a chat model, in OpenAI's format: `/v1/models` and `/v1/chat/completions`, streaming and not.

In: messages. Out: answers of the current snapshot; of `policy-best-of-N`, the one of N that the judge prefers.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from dataclasses import replace
from typing import TypeVar

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.requests import ClientDisconnect

from sppo_ray.prompts import transcript
from sppo_ray.records import ChatRequest, TokenDelta
from sppo_ray.web.chat_models import MODEL, Completion, CompletionRequest, Model, Models
from sppo_ray.web.completions import Question, gather, lines, whole
from sppo_ray.web.conversation import conversation
from sppo_ray.web.folder import RunFolder
from sppo_ray.web.problems import Refusal, describe
from sppo_ray.web.protocol import Run
from sppo_ray.web.turns import TooBusy, Turns

T = TypeVar("T")
LISTED = ("policy", "policy-best-of-4")
GONE_SECONDS = 0.5  # between two checks that the client is still connected


def chat_routes(run: Run, folder: RunFolder, answers: int) -> APIRouter:
    """answers: the most that are sampled for people at once."""
    router = APIRouter(prefix="/v1", responses=describe(401, 408, 413, 429, 503))
    turns = Turns(answers)

    @router.get("/models", summary="The models that answer")
    async def models() -> Models:
        started = int((await run.status()).started)
        return Models(data=[Model(id=name, created=started) for name in LISTED])

    @router.get("/models/{model:path}", summary="One of the models", responses=describe(404, 422))
    async def model(model: str) -> Model:
        _best_of(model)
        return Model(id=model, created=int((await run.status()).started))

    @router.post(
        "/chat/completions",
        summary="An answer of the current policy",
        response_model=Completion,
        responses={
            200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
            **describe(400, 404, 422),
        },
    )
    async def complete(body: CompletionRequest, request: Request) -> Response:
        question = await _question(body, run, folder)
        pieces = _pieces(question, run, turns)
        try:
            # What refuses the request does so before the first piece: with a status of its own.
            first = await _unless_gone(request, anext(pieces))
            if body.stream:
                usage = body.stream_options is not None and bool(body.stream_options.include_usage)
                return StreamingResponse(lines(question, first, pieces, usage), media_type="text/event-stream")
            completion = await _unless_gone(request, whole(question, first, pieces))
        except TooBusy:
            raise HTTPException(429, "too many requests are waiting: try again", {"Retry-After": "5"}) from None
        except ClientDisconnect:
            return Response(status_code=499)  # which nobody reads
        return JSONResponse(completion.model_dump())

    return router


def _best_of(model: str) -> int:
    """How many answers the judge chooses from; 1 is no choice."""
    if (found := MODEL.fullmatch(model)) is None:
        message = f"there is no model {model}: use policy, or policy-best-of-4 (2 to 16) for the judge's choice"
        raise Refusal(404, message, code="model_not_found", param="model")
    return int(found[1] or 1)


async def _question(body: CompletionRequest, run: Run, folder: RunFolder) -> Question:
    best_of = _best_of(body.model)
    if unsupported := body.unsupported():
        raise HTTPException(400, f"{', '.join(unsupported)}: not supported; leave out")
    if best_of > 1 and (body.n or 1) > 1:
        raise HTTPException(400, f"{body.model} gives one answer: leave n at 1")
    if body.top_logprobs and not body.logprobs:
        raise HTTPException(400, "top_logprobs needs logprobs: true")
    messages = conversation(body.messages)
    config = folder.config
    sampling = config.generation
    longest = body.max_completion_tokens or body.max_tokens or sampling.max_new_tokens
    temperature = sampling.temperature if body.temperature is None else body.temperature
    top_p = sampling.top_p if body.top_p is None else body.top_p
    if top_p == 0:  # the most likely token alone, which vLLM calls temperature 0
        temperature, top_p = 0.0, 1.0
    n = max(best_of, body.n or 1)
    if n > 1 and temperature == 0:
        raise HTTPException(400, "temperature 0 (or top_p 0) has one answer only: raise it, or leave n at 1")
    ids = await run.encode(messages)
    room = config.policy.max_prompt_length + sampling.max_new_tokens - len(ids)
    if room < 1:
        raise HTTPException(400, f"the conversation has {len(ids)} tokens, which leaves no room for an answer")
    ask = ChatRequest(
        token_ids=ids,
        n=n,
        max_tokens=min(longest, room),
        temperature=temperature,
        top_p=top_p,
        stop=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
        seed=body.seed,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
    )
    return Question(f"chatcmpl-{uuid.uuid4().hex}", body.model, transcript(messages), ask, best_of)


async def _pieces(question: Question, run: Run, turns: Turns) -> AsyncGenerator[TokenDelta]:
    """The answer, once it is this request's turn; of best-of-n the best, in one piece."""
    async with turns.take(question.ask.n), aclosing(run.chat(question.ask)) as pieces:
        if question.best_of == 1:
            async for piece in pieces:
                yield piece
            return
        answers = await gather(pieces)
    best = await run.best(question.prompt, [answer.text for answer in answers])
    yield replace(answers[best], index=0)


async def _unless_gone(request: Request, work: Awaitable[T]) -> T:
    """Cancel the work if its client disconnects."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait([task], timeout=GONE_SECONDS))[0]:
            if await request.is_disconnected():
                raise ClientDisconnect
        return await task
    finally:
        task.cancel()

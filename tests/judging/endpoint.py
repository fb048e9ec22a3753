"""An OpenAI-compatible endpoint on this machine that judges by a function, and fails as it is told.

python -m tests.judging.endpoint PORT        judges by the playground's rule
"""

import hashlib
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import log
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from pydantic import BaseModel

from sppo_ray.judging.llm.question import FIELDS, read_template
from sppo_ray.playground import rule_score
from tests.conftest import free_port

Chances = dict[str, float]  # of the tokens of the verdict
# What an answer may be instead: its HTTP status, or one of these words.
Fault = str | int | None
READ, WRITTEN = 100, 1  # tokens of an answer
SLOW_SECONDS = 2.0
FORM = re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>.*?)", re.escape(read_template(None).strip())), re.DOTALL)


class Ask(BaseModel):
    model: str
    messages: list[dict[str, str]]
    logprobs: bool = False
    top_logprobs: int = 0
    max_tokens: int | None = None
    max_completion_tokens: int | None = None


class Endpoint:
    """judge: chances of the verdict's tokens, from prompt and responses.  fault: of the n-th request, from 0, and its question.

    most_tokens: `top_logprobs` above it are a bad request; None for an endpoint that leaves log-probabilities out.
    renamed: `max_tokens` are a bad request.
    """

    def __init__(
        self,
        judge: Callable[[str, str, str], Chances],
        fault: Callable[[int, str], Fault] = lambda number, question: None,
        most_tokens: int | None = 20,
        renamed: bool = False,
    ) -> None:
        self._judge, self._fault, self._most, self._renamed = judge, fault, most_tokens, renamed
        self.asked: list[tuple[float, str, Ask]] = []  # seconds, authorization, request

    def app(self) -> FastAPI:
        from fastapi import Request

        app = FastAPI()

        @app.post("/v1/chat/completions")
        def complete(ask: Ask, request: Request) -> Response:
            self.asked.append((time.monotonic(), request.headers["authorization"], ask))
            question = ask.messages[0]["content"]
            fault = self._fault(len(self.asked) - 1, question)
            if self._most is not None and ask.top_logprobs > self._most:
                fault = 400
            if self._renamed and ask.max_tokens is not None:
                words = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
                return JSONResponse({"error": {"message": words}}, 400)
            if isinstance(fault, int):
                headers = {"Retry-After": "1"} if fault == 429 else None
                key = request.headers["authorization"].removeprefix("Bearer ")
                return JSONResponse({"error": {"message": f"status {fault}, key {key}"}}, fault, headers)
            if fault == "slow":
                time.sleep(SLOW_SECONDS)
            if fault == "no JSON":
                return PlainTextResponse("<html>a proxy speaks</html>", media_type="application/json")
            answer = self._answer(
                ask, question, {"refusal": "I cannot judge that.", "garbage": "BA" * 9}.get(str(fault))
            )
            response = JSONResponse(answer)
            if fault == "cut":
                whole = bytes(response.body)
                return StreamingResponse(iter([whole[:40]]), headers={"Content-Length": str(len(whole))})
            return response

        return app

    def _answer(self, ask: Ask, question: str, words: str | None) -> dict[str, Any]:
        if words is None:
            found = FORM.fullmatch(question.strip())
            chances = self._judge(*(found[name] for name in FIELDS)) if found else {"A": 1.0}
        else:
            chances = {words: 1.0}
        ranked = sorted(((log(chance), token) for token, chance in chances.items() if chance), reverse=True)
        tokens = [{"token": token, "logprob": logprob, "bytes": None} for logprob, token in ranked]
        logprobs = {"content": [tokens[0] | {"top_logprobs": tokens[: ask.top_logprobs]}], "refusal": None}
        message = {"role": "assistant", "content": tokens[0]["token"]}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        if ask.logprobs and self._most is not None:
            choice["logprobs"] = logprobs
        usage = {"prompt_tokens": READ, "completion_tokens": WRITTEN, "total_tokens": READ + WRITTEN}
        return {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": ask.model,
            "choices": [choice],
            "usage": usage,
        }


@contextmanager
def serving(endpoint: Endpoint, port: int | None = None) -> Iterator[str]:
    """The URL of an endpoint that answers in a thread until the context ends."""
    port = port or free_port()
    server = uvicorn.Server(uvicorn.Config(endpoint.app(), port=port, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.should_exit = True
        thread.join()


def by_rule(prompt: str, response_a: str, response_b: str) -> Chances:
    """What the playground's rule says, as surely as a model says what it is quite sure of."""
    scores = [rule_score(prompt, response) or 0.0 for response in (response_a, response_b)]
    if scores[0] == scores[1]:
        return {"C": 0.9, "A": 0.05, "B": 0.05}
    better, worse = ("A", "B") if scores[0] > scores[1] else ("B", "A")
    return {better: 0.9, worse: 0.05, "C": 0.05}


def share(question: str, salt: str = "") -> float:
    """A number in [0, 1) that depends on the question alone."""
    return int.from_bytes(hashlib.sha256(f"{salt}{question}".encode()).digest()[:4]) / 2**32


if __name__ == "__main__":
    with serving(Endpoint(by_rule), int(sys.argv[1])) as url:
        print(url, flush=True)
        threading.Event().wait()

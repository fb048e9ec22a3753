"""The one format of every error: a problem of RFC 9457, with the member `error` that OpenAI's clients read.

In: whatever ends a request early. Out: `application/problem+json`, and its description for the OpenAPI document.
"""

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from sppo_ray.errors import UserError
from sppo_ray.web.protocol import Unavailable

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
LONGEST = 1000  # characters in a detail
RETRY_SECONDS = 5


class OpenAIError(BaseModel):
    message: str
    type: str
    code: str
    param: str | None = None


class Refusal(HTTPException):
    """A refusal with OpenAI's own code, and the field of the request that is at fault."""

    def __init__(self, status: int, detail: str, code: str, param: str) -> None:
        super().__init__(status, detail)
        self.code, self.param = code, param


class Problem(BaseModel):
    type: str = "about:blank"
    title: str
    status: int
    detail: str
    error: OpenAIError

    @classmethod
    def of(cls, status: int, detail: str, code: str | None = None, param: str | None = None) -> "Problem":
        title = HTTPStatus(status).phrase
        kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
        detail = detail[:LONGEST].encode(errors="replace").decode()
        error = OpenAIError(message=detail, type=kind, code=code or title.lower().replace(" ", "_"), param=param)
        return cls(title=title, status=status, detail=detail, error=error)


def problem(status: int, detail: str, headers: dict[str, str] | None = None, **openai: str | None) -> JSONResponse:
    return JSONResponse(Problem.of(status, detail, **openai).model_dump(), status, headers, media_type=MEDIA_TYPE)


def describe(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of an operation, for its OpenAPI description."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def handle_problems(app: FastAPI) -> None:
    """Answer every exception of the application in this format, and describe it in the OpenAPI document."""
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    document = app.openapi()["components"]["schemas"]
    document |= schema.pop("$defs") | {"Problem": schema}

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        detail = str(error.detail)
        if detail == HTTPStatus.NOT_FOUND.phrase:  # no route has this path
            detail = f"there is no {request.url.path}: /openapi.json describes what there is"
        return problem(error.status_code, detail, dict(error.headers or {}))

    @app.exception_handler(Refusal)
    async def refused_as_openai(_: Request, error: Refusal) -> JSONResponse:
        return problem(error.status_code, str(error.detail), code=error.code, param=error.param)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        return problem(422, "; ".join(faults), param=".".join(map(str, error.errors()[0]["loc"][1:])) or None)

    @app.exception_handler(UserError)
    async def mistaken(_: Request, error: UserError) -> JSONResponse:
        return problem(422, str(error))

    @app.exception_handler(Unavailable)
    async def unavailable(_: Request, error: Unavailable) -> JSONResponse:
        return problem(503, str(error), {"Retry-After": str(RETRY_SECONDS)})

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s", request.method, request.url.path, exc_info=error)
        return problem(500, f"{type(error).__name__}: see the gateway's log")

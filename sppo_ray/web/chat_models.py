"""The part of OpenAI's chat format that the service speaks; other fields of a request are ignored.

In and out: https://platform.openai.com/docs/api-reference/chat.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

MOST_ANSWERS = 16  # of one request

Tokens = Annotated[int, Field(ge=1, le=1_000_000)]


class ChatMessage(BaseModel):
    role: Literal["system", "user", "assistant"]
    content: str


class StreamOptions(BaseModel):
    include_usage: bool = False


class CompletionRequest(BaseModel):
    """model: `policy`, or `policy-best-of-4` for the answer that the judge prefers among 4 (2 to 16)."""

    model: Annotated[str, Field(pattern=r"^policy(-best-of-([2-9]|1[0-6]))?$")]
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=256)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MOST_ANSWERS)] = 1
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AssistantMessage(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str


class Choice(BaseModel):
    index: int
    message: AssistantMessage
    finish_reason: str


class Completion(BaseModel):
    """system_fingerprint: the snapshot that the engines were to hold."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[Choice]
    usage: Usage


class Model(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "sppo-ray"


class Models(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]

"""The part of OpenAI's chat format that the service speaks.

In and out: https://platform.openai.com/docs/api-reference/chat. Clients send null for "the default", so every optional
field takes it.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MOST_ANSWERS = 16  # per request
MOST_LOGPROBS = 20  # OpenAI's limit, and vLLM's
MODEL = re.compile(r"policy(?:-best-of-([2-9]|1[0-6]))?")

Tokens = Annotated[int, Field(ge=1, le=1_000_000)]
StopText = Annotated[str, Field(min_length=1, max_length=200)]

# Fields that would change the answer and that the service does not support, with the values that change nothing.
# Every other unknown field (user, metadata, store, reasoning_effort, ...) is ignored.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "guided_json": (),
    "guided_regex": (),
    "logit_bias": ({},),
    "min_p": (0,),
    "modalities": (["text"], []),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "response_format": ({"type": "text"},),
    "structured_outputs": (),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_k": (-1, 0),
    "web_search_options": (),
}


class ContentPart(BaseModel):
    """Only parts of type "text" can be answered; `text` is theirs."""

    type: str
    text: str | None = None


class ChatMessage(BaseModel):
    """developer: OpenAI's newer name for system."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    tool_calls: list[Any] | None = None


class StreamOptions(BaseModel):
    include_usage: bool | None = None


class CompletionRequest(BaseModel):
    """model: `policy`, or `policy-best-of-4` for the answer that the judge prefers among 4 (2 to 16)."""

    model_config = ConfigDict(extra="allow")

    model: Annotated[str, Field(max_length=200)]
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=256)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MOST_ANSWERS)] | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=16)] | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None

    def unsupported(self) -> list[str]:
        """The fields that ask for something the service cannot do."""
        extra = self.model_extra or {}
        return [name for name, values in NEUTRAL.items() if extra.get(name) not in (None, *values)]


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AssistantMessage(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str


class TopLogprob(BaseModel):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    top_logprobs: list[TopLogprob]


class Logprobs(BaseModel):
    content: list[TokenLogprob]


class Choice(BaseModel):
    index: int
    message: AssistantMessage
    logprobs: Logprobs | None
    finish_reason: str


class Completion(BaseModel):
    """system_fingerprint: the snapshot that answered."""

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

"""The protocols of a judge and of a judge kind.

A judge compares: prompts and K responses to each, plain text without control tokens, to c[i, j] = left score - right score,
the logit that response i, placed left, beats response j. A judge kind answers what a run must know before it loads one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


class Judge(Protocol):
    def compare(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        """Comparison logits (N, K, K) with a zero diagonal, for N prompts and N lists of K texts."""
        ...

    def truncated(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        """Per prompt (N,), the share of its comparisons in which the prompt or one of the two responses was cut."""
        ...

    def sleep(self) -> None:
        """Free the device memory until `wake`."""
        ...

    def wake(self) -> None: ...


class WithoutDevice:
    """The part of a judge that reads texts whole and holds no device memory."""

    def truncated(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        return np.zeros(len(prompts), dtype=np.float32)

    def sleep(self) -> None:
        pass

    def wake(self) -> None:
        pass


@dataclass
class Usage:
    """What a judge that is asked questions has used since it was loaded.

    questions: comparisons that it was asked for.  retries: requests that were sent again, after an error, a time-out or a
    rate limit.  unreadable: answers without a verdict.  refused: questions that the endpoint did not answer, though it
    answers others.  input_tokens, output_tokens: as the endpoint counts them.  usd: US dollars, by `judge.price`.
    """

    questions: int = 0
    retries: int = 0
    unreadable: int = 0
    refused: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0


@runtime_checkable
class Metered(Protocol):
    """A judge that counts what it uses."""

    usage: Usage


@dataclass(frozen=True)
class Demand:
    """A judge's demand on one device, for the plan.

    memory: bytes by part, without CUDA's own runtime; empty if the judge needs no GPU.
    tokens: read per comparison, or per response.  operations: floating-point operations per token.
    each: what the judge reads at a time, a `comparison` of two responses or one `response`, which it scores.
    rate: tokens per second of one judge, where it is not the device that sets it.  usd: US dollars of what it reads at a time.
    """

    memory: dict[str, float]
    tokens: float
    operations: float
    each: Literal["comparison", "response"] = "comparison"
    rate: float | None = None
    usd: float = 0.0


@runtime_checkable
class JudgeKind(Protocol):
    """One way to judge, made from the `judge` section of the configuration (a `JudgeSettings`)."""

    def check(self) -> None:
        """Raise a `UserError` for anything that would keep the judge from loading; quick, before any engine starts."""
        ...

    def load(self, device: str) -> Judge:
        """The judge itself, on `cpu` or `cuda`."""
        ...

    def description(self) -> str:
        """A few words for the model card and the resolved recipe."""
        ...

    def demand(self, prompt: int, response: int) -> Demand:
        """Its demand on a device for prompts and responses of this many tokens."""
        ...

"""An endpoint that compares as `FakeJudge` does and fails in every way that endpoints do, for chaos runs.

Some questions it never answers as it should, with or without chaos: what is set aside is then the same in every run. Other
answers fail by chance, and are right when they are asked for again. While it is down it answers nothing.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from math import exp
from typing import Any

from sppo_ray.config import JudgeSettings
from sppo_ray.fakes import FakeJudge
from sppo_ray.judging.llm.endpoint import EndpointJudge
from tests.judging.endpoint import Chances, Endpoint, Fault, serving, share

ALWAYS: tuple[Fault, ...] = ("garbage", "refusal", "no JSON", 400)  # the last one is refused, the others cannot be read
PASSING: tuple[Fault, ...] = (500, 503, 429, "slow", "cut")
ALWAYS_SHARE, PASSING_SHARE = 0.01, 0.1
RETRIES, SECONDS = 5, 1.0  # about 15 s of back-off; "slow" takes longer


class FailingEndpoint:
    """url: where it answers.  calm: only what fails always fails.  down: nothing is answered."""

    def __init__(self, url: str) -> None:
        self.url, self.calm, self.down = url, False, False
        self._chance = random.Random(0)

    def fault(self, number: int, question: str) -> Fault:
        if self.down:
            return 503
        if share(question) < ALWAYS_SHARE:
            return ALWAYS[int(share(question, "which") * len(ALWAYS))]
        if not self.calm and self._chance.random() < PASSING_SHARE:
            return self._chance.choice(PASSING)
        return None

    @property
    def settings(self) -> dict[str, Any]:
        return {"kind": "llm", "model": "m", "endpoint": self.url, "requests": 8}

    def judge(self) -> EndpointJudge:
        return failing_judge(JudgeSettings(**self.settings))


def failing_judge(settings: JudgeSettings) -> EndpointJudge:
    return EndpointJudge(settings, RETRIES, SECONDS)


def by_digest(prompt: str, response_a: str, response_b: str) -> Chances:
    logit = float(FakeJudge().compare([prompt], [[response_a, response_b]])[0, 0, 1])
    return {"A": 1 / (1 + exp(-logit)), "B": 1 / (1 + exp(logit))}


@contextmanager
def failing_endpoint() -> Iterator[FailingEndpoint]:
    found = FailingEndpoint("")
    with serving(Endpoint(by_digest, lambda *asked: found.fault(*asked))) as found.url:
        yield found

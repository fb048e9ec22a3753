"""The judge kind `llm`: what a run must know about an LLM before it judges.

In: the `judge` section of the configuration. Out: checks, a description, its demand on a device, the judge itself.
"""

from typing import TYPE_CHECKING

from sppo_ray.config import JudgeSettings
from sppo_ray.errors import ConfigError
from sppo_ray.judging.judge import Demand, Judge
from sppo_ray.judging.llm.question import read_template
from sppo_ray.judging.orders import ORDERS

if TYPE_CHECKING:
    from sppo_ray.judging.llm.endpoint import EndpointJudge

CHARACTERS = 4.5  # per token
ANSWER_SECONDS = 1.0  # of an endpoint, assumed for the plan
CHECK_RETRIES = 2


class LLMKind:
    def __init__(self, settings: JudgeSettings) -> None:
        self._settings = settings

    def check(self) -> None:
        self._endpoint(CHECK_RETRIES).check()

    def load(self, device: str) -> Judge:
        return self._endpoint()

    def description(self) -> str:
        return f"an LLM that is asked which of two responses is better, {ORDERS[self._settings.orders]}"

    def demand(self, prompt: int, response: int) -> Demand:
        tokens = len(read_template(self._settings.prompt)) / CHARACTERS + prompt + 2 * response
        rate, price = tokens * self._settings.requests / ANSWER_SECONDS, self._settings.price
        usd = (tokens * price.input + price.output) / 1e6 if price else 0.0
        return Demand(memory={}, tokens=tokens, operations=0, rate=rate, usd=usd)

    def _endpoint(self, *retries: int) -> "EndpointJudge":
        if self._settings.endpoint is None:
            raise ConfigError("judge.kind=llm needs judge.endpoint, the URL of an OpenAI-compatible endpoint: set it")
        # Imported here so that naming a judge does not load the client library.
        from sppo_ray.judging.llm.endpoint import EndpointJudge

        return EndpointJudge(self._settings, *retries)

"""The judge kind `llm`: what a run must know about an LLM before it judges.

In: the `judge` section of the configuration. Out: checks, a description, its demand on a device, the judge itself.
"""

from typing import TYPE_CHECKING

from sppo_ray.config import JudgeSettings
from sppo_ray.judging.judge import Demand, Judge
from sppo_ray.judging.llm.question import read_template
from sppo_ray.judging.orders import ORDERS
from sppo_ray.models import model_shape
from sppo_ray.sampling import CACHE_BYTES

if TYPE_CHECKING:
    from sppo_ray.judging.llm.endpoint import EndpointJudge

CHARACTERS = 4.5  # per token
ANSWER_SECONDS = 1.0  # of an endpoint, assumed for the plan
CHECK_RETRIES = 2
SIZE = 2  # bytes per number: bfloat16
STEP_TOKENS = 16384  # that vLLM reads in a step, at most


class LLMKind:
    def __init__(self, settings: JudgeSettings) -> None:
        self._settings = settings

    def check(self) -> None:
        if self._settings.endpoint is not None:
            self._endpoint(CHECK_RETRIES).check()
            return
        # Imported here, as below, so that naming a judge loads neither transformers nor the client library.
        from sppo_ray.judging.llm.served import read_encoder

        read_encoder(self._settings)

    def load(self, device: str) -> Judge:
        if self._settings.endpoint is not None:
            return self._endpoint()
        from sppo_ray.judging.llm.served import ServedJudge

        return ServedJudge(self._settings, device)

    def description(self) -> str:
        return f"an LLM that is asked which of two responses is better, {ORDERS[self._settings.orders]}"

    def demand(self, prompt: int, response: int) -> Demand:
        """Without an endpoint each token of a question counts; those that the prefix cache spares are not known here."""
        settings = self._settings
        tokens = len(read_template(settings.prompt)) / CHARACTERS + prompt + 2 * response
        if settings.endpoint is None:
            shape, parallel = model_shape(settings.model, "judge.model"), settings.tensor_parallel
            wide = 4 * shape.hidden + 3 * shape.intermediate / parallel
            memory = {
                "weights": SIZE * shape.parameters / parallel,
                "activations": SIZE * STEP_TOKENS * wide,
                "kv_cache": float(CACHE_BYTES),
            }
            return Demand(memory, tokens, operations=2 * shape.layers * shape.layer / parallel)
        rate, price = tokens * settings.requests / ANSWER_SECONDS, settings.price
        usd = (tokens * price.input + price.output) / 1e6 if price else 0.0
        return Demand(memory={}, tokens=tokens, operations=0, rate=rate, usd=usd)

    def _endpoint(self, *retries: int) -> "EndpointJudge":
        from sppo_ray.judging.llm.endpoint import EndpointJudge

        return EndpointJudge(self._settings, *retries)
